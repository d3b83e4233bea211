from __future__ import annotations

from collections import Counter

import pytest
import torch

from vlmadapt.core.image_bank import ImageBank
from vlmadapt.errors import DataError
from vlmadapt.testing import MethodUnderTest

LABELS = torch.tensor([1, 0, 2, 1, 1])


def bank(encoded: bool = False) -> ImageBank:
    """Images whose only pixel is their number."""
    made = ImageBank(LABELS, 3, encoded)
    made.show(torch.arange(5.0)[:, None, None, None].split(2))
    return made


def test_an_image_of_each_class_is_drawn_and_each_of_its_images_alike() -> None:
    torch.manual_seed(0)
    drawn = bank().draw(torch.tensor([2, 1, 0]).repeat(3000)).pixels.flatten().view(-1, 3)
    assert drawn[:, 0].eq(2).all() and drawn[:, 2].eq(1).all()
    counts = Counter(drawn[:, 1].tolist())
    assert counts.keys() == {0.0, 3.0, 4.0} and min(counts.values()) > 900


def test_other_views_take_the_same_memory() -> None:
    made = bank()
    before = made._images
    made.show([torch.arange(10.0, 15.0)[:, None, None, None]])
    assert made._images is before and made.draw(torch.tensor([2])).pixels.item() == 12


def test_a_class_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="class number 3 has no training image"):
        ImageBank(LABELS, 4, encoded=False)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_pass_over_drawn_images_gives_their_features_and_labels(encoded: bool) -> None:
    tested = MethodUnderTest("maple" if not encoded else "coop")
    classifier, shots = tested.classifier(tested.build()), tested.shots(per_class=1)
    classifier.bank = ImageBank(shots.labels, len(shots.names), encoded)
    classifier.bank.show([classifier.encode(shots.images) if encoded else shots.images])
    plain = classifier.forward(shots.images, shots.names, shots.labels)
    drawn = plain.images_of(shots.labels)
    assert torch.equal(drawn.labels, shots.labels)
    torch.testing.assert_close(drawn.image(), plain.image())


def test_only_steps_that_say_so_can_draw() -> None:
    tested = MethodUnderTest("coop")
    shots = tested.shots()
    with pytest.raises(ValueError, match="set `draws_images` in the method"):
        tested.classifier(tested.build()).forward(shots.images, shots.names, shots.labels).images_of(shots.labels)

"""ProVP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import IMAGE, Task

TEMPLATES = ("a type of thing, a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


@pytest.mark.parametrize(("tokens", "count"), [(16, 147_456), (50, 460_800)])
def test_published_count(tokens: int, count: int) -> None:
    assert trainable_count(build_method("provp", untrained("ViT-B-16"), TASK, {"tokens": tokens})) == count


def test_the_text_side_is_the_frozen_template(backbone: Backbone) -> None:
    method = build_method("provp", backbone, TASK)
    x = Classifier(backbone, method, TEMPLATES).forward(inputs(1, 2, 16), small.NAMES)
    torch.testing.assert_close(x.text(), x.zero_shot.text)
    assert not x.text().requires_grad
    assert not torch.allclose(x.image(), x.zero_shot.image, atol=1e-3)


def test_tokens_that_only_flow_are_those_of_the_first_block(backbone: Backbone) -> None:
    """With flow 1 no new tokens enter after the first block."""
    method = build_method("provp", backbone, TASK, {"flow": 1.0})
    classifier = Classifier(backbone, method, TEMPLATES)
    before = classifier.forward(inputs(1, 2, 16), small.NAMES).image()
    with torch.no_grad():
        method.get_parameter("tokens")[1:] = 7.0
    torch.testing.assert_close(classifier.forward(inputs(1, 2, 16), small.NAMES).image(), before)


def test_few_tokens_may_be_written_over_the_first_patches(backbone: Backbone) -> None:
    """The row keeps its length; fresh tokens alone (flow 0) make it blind to those patches, but for the first block."""
    method = build_method("provp", backbone, TASK, {"tokens": 4, "flow": 0.0, "over_patches": True})
    x = Classifier(backbone, method, TEMPLATES).forward(inputs(1, 2, 16), small.NAMES)
    gradient = torch.autograd.grad(x.image().sum(), method.get_parameter("tokens"))[0].abs().amax(dim=(1, 2))
    assert (gradient > 0).tolist() == [False, True, True]
    assert x.features(IMAGE).shape == x.zero_shot.image.shape


def test_reformation_finds_each_image_in_the_batch(backbone: Backbone) -> None:
    """It is the cross entropy of unscaled cosines; of one image alone it is 0."""
    method = build_method("provp", backbone, TASK)
    classifier = Classifier(backbone, method, TEMPLATES)
    for n in (1, 3):
        x = classifier.forward(inputs(1, n, 16), small.NAMES, torch.zeros(n, dtype=torch.long))
        found = {name: value for name, _, value in method.losses(x)}["reformation"]
        cosines = torch.nn.functional.normalize(x.features(IMAGE), dim=-1) @ x.zero_shot.image.T
        torch.testing.assert_close(found, (cosines.logsumexp(1) - cosines.diagonal()).mean())
        assert (found < 1e-6) == (n == 1)

"""DCLIP, CuPL and WaffleCLIP: limits in which they are zero-shot CLIP, and their means."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.plugin import method_class
from vlmadapt.roles import SEEN
from vlmadapt.testing import tiny_clip
from vlmadapt_zero_shot.descriptions import _as_sentence

NAMES = ("cat", "red_fox")
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def scores(name: str, descriptions: dict[str, list[str]] | None = None, **options: object) -> torch.Tensor:
    backbone, cls = tiny_clip(), method_class(name)
    method = cls(cls.Config(**options), backbone, Task(NAMES, ()))
    classifier = Classifier(backbone, method, ("a photo of a {}.",), descriptions=descriptions)
    return classifier.scores(IMAGES, NAMES, SEEN)


@pytest.mark.parametrize("name", ["dclip", "cupl"])
def test_with_the_template_as_description_it_is_zero_shot_clip(name: str) -> None:
    texts = {"cat": ["a photo of a cat."], "red fox": ["a photo of a red fox."]}
    torch.testing.assert_close(scores(name, texts), scores("clip"))


def test_dclip_averages_cosines_and_cupl_features() -> None:
    first = {"cat": ["a cat."], "red fox": ["a red fox."]}
    second = {"cat": ["the cat in a hat."], "red fox": ["one red fox."]}
    both = {name: first[name] + second[name] for name in first}
    mean = (scores("dclip", first) + scores("dclip", second)) / 2
    torch.testing.assert_close(scores("dclip", both), mean)
    cosines = scores("cupl", both) / mean  # the mean of two unit features is shorter than 1
    assert (cosines > 1).all()
    torch.testing.assert_close(cosines, cosines[:1].expand_as(cosines))


def test_a_descriptor_follows_the_class_name() -> None:
    assert _as_sentence("antlers", "red_fox", published=False) == "red fox, which has antlers"
    assert _as_sentence("antlers", "red_fox", published=True) == "red fox, which is antlers"
    assert _as_sentence("A Red Fox in snow.", "red_fox", published=False) == "A Red Fox in snow."
    assert _as_sentence("Ants in a row.", "ant", published=False) == "Ants in a row."
    assert _as_sentence("long antennae", "ant", published=False) == "ant, which has long antennae"


def test_waffle_depends_on_its_seed_alone() -> None:
    assert torch.equal(scores("waffle", pairs=2), scores("waffle", pairs=2))
    assert not torch.allclose(scores("waffle", pairs=2), scores("waffle", pairs=2, seed=2))

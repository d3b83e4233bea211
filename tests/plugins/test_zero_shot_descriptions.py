"""DCLIP, CuPL and WaffleCLIP: limits in which they are zero-shot CLIP, and their means."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.plugin import Descriptions, method_class
from vlmadapt.roles import SEEN
from vlmadapt.testing import tiny_clip
from vlmadapt_zero_shot.descriptions import DCLIPConfig, Waffle, WaffleConfig, as_sentences

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


def written(text: str, name: str, **options: object) -> str:
    return as_sentences(Descriptions((text,), (1,)), (name,), DCLIPConfig(**options)).sentences[0]  # type: ignore[arg-type]


def test_a_descriptor_follows_the_class_name() -> None:
    assert written("antlers", "red_fox") == "red fox, which has antlers"
    assert written("A Red Fox in snow.", "red_fox") == "A Red Fox in snow."
    assert written("Ants in a row.", "ant") == "Ants in a row."
    assert written("long antennae", "ant") == "ant, which has long antennae"
    assert written("antlers", "elk", before="A photo of an ", after=".") == "A photo of an elk, which has antlers."


@pytest.mark.parametrize(
    ("descriptor", "verb"),
    [
        ("antlers", "is "),
        ("used tyres", "is "),
        ("made of wood", "has "),
        ("the head", "has "),
        ("is red", "has "),
        ("often red", ""),
        ("candles", ""),
        ("hash marks", ""),
    ],
)
def test_published_verbs_go_by_the_first_letters(descriptor: str, verb: str) -> None:
    assert written(descriptor, "red_fox", published=True) == f"red fox, which {verb}{descriptor}"
    waffle = Waffle(WaffleConfig(descriptors=[descriptor], published=True), tiny_clip(), Task(NAMES, ()))
    assert waffle.templates() == [f"A photo of a {{}}, which {verb}{descriptor}."]


def test_published_descriptions_are_all_descriptors() -> None:
    assert written("red fox face", "red_fox", published=True) == "red fox, which has red fox face"


def test_waffle_depends_on_its_seed_alone() -> None:
    assert torch.equal(scores("waffle", pairs=2), scores("waffle", pairs=2))
    assert not torch.allclose(scores("waffle", pairs=2), scores("waffle", pairs=2, seed=2))

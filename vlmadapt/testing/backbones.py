"""Conformance checks of a registered backbone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.loading.model_config import CONFIG
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed, CheckResult, PluginCheck, results_of

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class BackboneUnderTest:
    """A registered backbone, loaded when the first check needs it.

    Args:
        name: registered name.
    """

    def __init__(self, name: str):
        self.name = name

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone."""
        return load_backbone(self.name)


def folder(tested: BackboneUnderTest) -> None:
    """Its function gives a folder with a saved open_clip model."""
    made = registry.find(registry.BACKBONES, tested.name).load()()
    path = Path(made)
    if not path.is_dir():
        raise CheckFailed(f"'{made}' is no folder.", "return the path of a folder with a saved open_clip model.")
    if not (path / CONFIG).is_file():
        raise CheckFailed(f"'{path}' has no {CONFIG}.")
    if not any((path / name).is_file() for name in WEIGHTS):
        raise CheckFailed(f"'{path}' has no weights.", f"save them as {WEIGHTS[0]}.")


def loads(tested: BackboneUnderTest) -> None:
    """It loads, and run block by block gives what open_clip's own forward gives."""
    _ = tested.backbone


def same(tested: BackboneUnderTest) -> None:
    """It has the same weights every time it is loaded."""
    if load_backbone(tested.name).fingerprint() != tested.backbone.fingerprint():
        raise CheckFailed("its weights are others the second time.")


@torch.no_grad()
def features(tested: BackboneUnderTest) -> None:
    """Features are finite, of one width, and differ between images and between class names."""
    image, text = tested.backbone.image, tested.backbone.text
    pixels = torch.randn(2, 3, *image.size, generator=torch.Generator().manual_seed(0))
    found = {"images": image.encode(pixels), "class names": text.encode(text.tokenize(CLASSES))}
    if found["images"].shape[1] != found["class names"].shape[1]:
        widths = " and ".join(str(value.shape[1]) for value in found.values())
        raise CheckFailed(f"features of images and texts have different widths, {widths}.")
    for what, value in found.items():
        if not value.isfinite().all():
            raise CheckFailed(f"features of {what} are not finite.")
        if torch.allclose(value[0], value[1]):
            raise CheckFailed(f"features of different {what} are equal.", "look at the tokenizer and preprocessing.")


def texts(tested: BackboneUnderTest) -> None:
    """Its tokenizer leaves room for a class name in a sentence."""
    text = tested.backbone.text
    sentence = f"a photo of a {CLASSES[0]}, a type of animal."
    length = int(text.lengths([sentence])[0])
    if length > text.context:
        raise CheckFailed(f"'{sentence}' has {length} tokens, more than its context of {text.context}.")


CHECKS = (
    PluginCheck(
        "folder", folder, "save a model there: open_clip_config.json and open_clip_model.safetensors.", basic=True
    ),
    PluginCheck("loads", loads, "see docs/backbones.md for what can be loaded.", basic=True),
    PluginCheck("same", same, "write the weights once, and draw none when they are loaded."),
    PluginCheck("features", features, "look at the weights and the config."),
    PluginCheck("texts", texts, "save the tokenizer that the model was trained with."),
)


def check_backbone(name: str) -> Iterator[CheckResult]:
    """Run the checks of a backbone one by one and yield each result."""
    return results_of(CHECKS, BackboneUnderTest(name))

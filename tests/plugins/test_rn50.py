"""CLIP's ResNet, on which many methods were published: who stays outside its image tower runs, the others refuse it."""

from __future__ import annotations

from functools import cache

import open_clip
import pytest
import torch

from vlmadapt import Backbone, registry
from vlmadapt.core.build import method_class
from vlmadapt.plugin import IMAGE, SEEN, BackboneError
from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.data import CLASSES

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]
INSIDE = [name for name in METHODS if IMAGE in method_class(name).touches]
OUTSIDE = [name for name in METHODS if name not in INSIDE]


@cache
def rn50() -> Backbone:
    """open_clip's RN50 with random weights, for small pictures."""
    torch.manual_seed(0)
    model = open_clip.create_model("RN50", load_weights=False, force_image_size=64)
    return Backbone("RN50", model, open_clip.get_tokenizer("RN50"))


def test_every_method_is_one_or_the_other() -> None:
    assert {"coop", "cocoop", "kgcoop", "prograd", "proda", "tcp", "clip-adapter", "tip-adapter"} <= set(OUTSIDE)
    assert {"maple", "promptsrc", "rpo", "plot", "mmrl", "mma", "clip-lora"} <= set(INSIDE)


# The same on a small ResNet is in tests/core/test_resnet.py; here one method that trains, and those that prepare.
QUICK = {"coop", "tip-adapter", "tip-adapter-f", "linear-probe"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in OUTSIDE])
def test_methods_outside_the_image_tower_train_and_answer(name: str) -> None:
    subject = MethodUnderTest(name, {"wraps": "coop"} if name == "wise-ft" else {}, rn50())
    classifier = subject.fit(CLASSES[:2], epochs=1, batch_size=2)
    scores = classifier.scores(subject.test_images(classifier.method)[:2], CLASSES[:2], SEEN)
    assert scores.shape == (2, 2)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", INSIDE)
def test_methods_inside_the_image_tower_say_why_they_cannot(name: str) -> None:
    with pytest.raises(BackboneError, match=r"works inside the image tower.*ModifiedResNet.*choose a backbone"):
        MethodUnderTest(name, backbone=rn50()).build()

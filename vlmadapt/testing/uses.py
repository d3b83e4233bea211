"""Observed uses of a fitted method: hook points by tower, images, and overridden methods."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Prompt, Teacher
from vlmadapt.core.method import Method
from vlmadapt.core.plan import POOLED, TowerPlan
from vlmadapt.core.wrapper import Wrapper
from vlmadapt.testing.data import CLASSES, MemorySupport
from vlmadapt.testing.under_test import MethodUnderTest

PROMPTS = {Prompt: "its own prompt template", Teacher: "its own zero-shot templates"}
"""Declarations that replace the templates of the data set."""
OVERRIDES = {
    "losses": "losses",
    "route": "inference router",
    "stream_start": "a stream of test images",
    "test_views": "views of test images",
    "test_augmentation": "augmentation of test images",
    "prepare": "prepare",
    "training_step": "training_step",
    "cycle_start": "cycle_start",
    "epoch_start": "epoch_start",
    "epoch_end": "epoch_end",
    "finish": "finish",
}
"""Methods that a plugin may override, and their names in the documentation."""


class RecordingSupport(MemorySupport):
    """A support set that notes which of its images are read."""

    read: frozenset[str] = frozenset()

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """The training images."""
        self.read |= {"support images"}
        return super().epochs(augmented, times)

    def validation(self) -> Iterator[ForwardPass]:
        """The validation images."""
        self.read |= {"validation images"}
        return super().validation()


def observed_uses(tested: MethodUnderTest) -> dict[str, list[str]]:
    """Names of what the trained method uses, by where it uses them; inherited code counts as its own."""
    plan = tested.trained.forward(tested.shots().images[:1], CLASSES).plan
    hooks = list(tested.trained.method.hooks())
    used = {
        "text tower": _hook_points(plan.text),
        "image tower": _hook_points(plan.image),
        "prompts": [name for kind, name in PROMPTS.items() if any(isinstance(hook, kind) for hook in hooks)],
        "overrides": [name for method, name in OVERRIDES.items() if _overridden(tested.trained.method, method)],
        "reads before or after training": sorted(_images_read(tested)),
    }
    return {where: names for where, names in used.items() if names}


def _hook_points(tower: TowerPlan) -> list[str]:
    found = {
        "token injection": bool(tower.injections),
        "block adapters": bool(tower.adapters),
        "projection heads": bool(tower.heads.keys() - {POOLED}),
    }
    return [name for name, present in found.items() if present]


def _overridden(method: Method, name: str) -> bool:
    """Whether a method, or the one that it wraps, has this of its own."""
    own = getattr(type(method), name) not in (getattr(Method, name), getattr(Wrapper, name))
    return own or (isinstance(method, Wrapper) and _overridden(method.inner, name))


def _images_read(tested: MethodUnderTest) -> frozenset[str]:
    """Which images `prepare` and `finish` read."""
    classifier = tested.classifier(tested.build())
    support = RecordingSupport(classifier, tested.shots(), tested.shots(per_class=2, seed=1))
    with torch.no_grad():
        classifier.method.prepare(support)
        classifier.method.eval().finish(support)
    return support.read

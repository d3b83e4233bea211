"""Accuracy of a classifier on groups of classes, and on data it was not trained for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Role
from vlmadapt.data.load import load_data
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.splits import ClassGroup
from vlmadapt.data.transforms import test_transform
from vlmadapt.workflows.progress import Reporter

BATCH = 128


@dataclass(frozen=True)
class Accuracy:
    """How a group of classes was answered.

    Attributes:
        name: of the group.
        role: what the router was told.
        correct: images answered rightly.
        total: images.
        classes: accuracy of each class, None where it has no image.
        seconds: spent on it, image loading included.
    """

    name: str
    role: str
    correct: int
    total: int
    classes: dict[str, float | None]
    seconds: float

    @property
    def percent(self) -> float:
        """Accuracy over images, in percent."""
        return 100.0 * self.correct / max(self.total, 1)


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


def evaluate_group(
    classifier: Classifier,
    group: ClassGroup,
    accelerator: Accelerator,
    reporter: Reporter,
    workers: int | None = None,
) -> Accuracy:
    """Answer every test image of a group once, spread over the processes."""
    began = time.perf_counter()
    counts = torch.zeros(2, len(group.classes), dtype=torch.float64)
    batches = eval_batches(
        group.examples,
        test_transform(classifier.backbone.preprocess_config),
        BATCH * accelerator.num_processes,
        accelerator.process_index,
        accelerator.num_processes,
        workers,
    )
    with reporter.bar(f"testing {group.name}", len(group.examples)):
        for batch in batches:
            if len(batch.labels):
                scores = classifier.scores(batch.images.to(classifier.device), group.classes, Role(group.role))
                right = scores.argmax(dim=-1).cpu() == batch.labels
                counts[0] += torch.bincount(batch.labels[right], minlength=len(group.classes))
                counts[1] += torch.bincount(batch.labels, minlength=len(group.classes))
            reporter.advance(batch.total)
    right, seen = accelerator.reduce(counts.to(accelerator.device), "sum").cpu()
    by_class = {name: (float(r / n) if n else None) for name, r, n in zip(group.classes, right, seen, strict=True)}
    seconds = time.perf_counter() - began
    return Accuracy(group.name, group.role, int(right.sum()), int(seen.sum()), by_class, seconds)


def role_of(classes: Sequence[str], trained: Sequence[str]) -> Role:
    """What may be said of classes: seen if all were trained on, unseen if none was, else unknown."""
    known = set(trained)
    seen = [name in known for name in classes]
    if all(seen):
        return Role.SEEN
    return Role.UNKNOWN if any(seen) else Role.UNSEEN


def group_of(spec: str, trained: Sequence[str], names: Path | None = None) -> ClassGroup:
    """All test images of a data set as one group."""
    data = load_data(spec, classes=names)
    return ClassGroup(data.name, role_of(data.classes, trained).value, data.classes, data.test)


def summary(accuracies: Sequence[Accuracy]) -> dict[str, Any]:
    """Accuracies by group in percent, and the harmonic mean of base and novel where both are there."""
    found: dict[str, Any] = {a.name: round(a.percent, 4) for a in accuracies}
    if {"base", "novel"} <= found.keys():
        found["harmonic_mean"] = round(harmonic_mean(found["base"], found["novel"]), 4)
    return found

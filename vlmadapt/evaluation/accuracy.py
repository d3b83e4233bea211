"""Accuracy of a classifier on groups of classes, and on data it was not trained for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Role
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.splits import ClassGroup, group_sha256
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError
from vlmadapt.runs.progress import Reporter

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
        data_sha256: of the classes, role, files and labels that were tested.
    """

    name: str
    role: str
    correct: int
    total: int
    classes: dict[str, float | None]
    seconds: float
    data_sha256: str = ""

    @property
    def percent(self) -> float:
        """Accuracy over images, in percent."""
        return 100.0 * self.correct / max(self.total, 1)


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


@dataclass(frozen=True)
class Answers:
    """What a classifier answered for every test image of a group, in the order of the group's examples.

    Attributes:
        group: what was asked.
        chosen: (images,) index of the class answered.
        confidence: (images,) its probability.
        seconds: spent on it, image loading included.
    """

    group: ClassGroup
    chosen: Tensor
    confidence: Tensor
    seconds: float

    def accuracy(self) -> Accuracy:
        """How many were right, over all images and class by class."""
        classes = self.group.classes
        labels = torch.tensor([example.label for example in self.group.examples])
        seen = labels.bincount(minlength=len(classes))
        right = labels[self.chosen == labels].bincount(minlength=len(classes))
        pairs = zip(distinct(classes), right.tolist(), seen.tolist(), strict=True)
        by_class = {name: (r / n if n else None) for name, r, n in pairs}
        digest = group_sha256(self.group)
        return Accuracy(self.group.name, self.group.role, int(right.sum()), len(labels), by_class, self.seconds, digest)

    def to_json(self) -> dict[str, Any]:
        """As a run keeps it: two numbers for each image."""
        confidence = [round(value, 4) for value in self.confidence.tolist()]
        return {"name": self.group.name, "chosen": self.chosen.tolist(), "confidence": confidence}


def evaluate_group(
    classifier: Classifier,
    group: ClassGroup,
    accelerator: Accelerator,
    reporter: Reporter,
    workers: int | None = None,
) -> Accuracy:
    """The accuracy on every test image of a group."""
    return answer_group(classifier, group, accelerator, reporter, workers).accuracy()


def answer_group(
    classifier: Classifier,
    group: ClassGroup,
    accelerator: Accelerator,
    reporter: Reporter,
    workers: int | None = None,
) -> Answers:
    """Answer every test image of a group once, spread over the processes; each of them gets all the answers."""
    began = time.perf_counter()
    if group.templates is not None:
        classifier = classifier.with_templates(group.templates)
    found = torch.zeros(2, len(group.examples), dtype=torch.float64)
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
                confidence = scores.softmax(dim=-1).amax(dim=-1)
                found[:, batch.indices] = torch.stack((scores.argmax(dim=-1).float(), confidence)).double().cpu()
            reporter.advance(batch.total)
    # An image is answered by one process and is zero in all others.
    chosen, confidence = accelerator.reduce(found.to(accelerator.device), "sum").cpu()
    return Answers(group, chosen.long(), confidence, time.perf_counter() - began)


def role_of(classes: Sequence[str], trained: Sequence[str]) -> Role:
    """What may be said of classes: seen if all were trained on, unseen if none was, else unknown."""
    known = set(trained)
    seen = [name in known for name in classes]
    if all(seen):
        return Role.SEEN
    return Role.UNKNOWN if any(seen) else Role.UNSEEN


def distinct(classes: Sequence[str]) -> list[str]:
    """Names that can be keys: ImageNet has 'missile' twice, the second becomes 'missile (2)'."""
    count: Counter[str] = Counter()
    found = []
    for name in classes:
        count[name] += 1
        found.append(name if count[name] == 1 else f"{name} ({count[name]})")
    return found


def group_of(data: Dataset, trained: Sequence[str], role: Role | None = None) -> ClassGroup:
    """All test images of a data set as one group, described with its own templates.

    Args:
        data: tested.
        trained: classes that were trained on.
        role: what the router is told, by default what can be said of the classes by their names.

    Raises:
        DataError: there are no test images.
    """
    if not data.test:
        raise DataError(f"data set '{data.name}' has no test images.")
    told = role or role_of(data.classes, trained)
    return ClassGroup(data.name, told.value, data.classes, data.test, data.templates)


def summary(accuracies: Sequence[Accuracy]) -> dict[str, Any]:
    """Accuracies by group in percent, the harmonic mean of base and novel, and the mean over several targets.

    The first group is of the data trained on; the others are targets, but for 'novel', which is of the same data.
    """
    found: dict[str, Any] = {a.name: round(a.percent, 4) for a in accuracies}
    if {"base", "novel"} <= found.keys():
        found["harmonic_mean"] = round(harmonic_mean(found["base"], found["novel"]), 4)
        return found
    targets = [a.percent for a in accuracies[1:]]
    if len(targets) > 1:
        found["target_average"] = round(sum(targets) / len(targets), 4)
    return found

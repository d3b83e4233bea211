"""Precision, recall and F1 of each class, from a confusion matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean

Confusion = Mapping[str, Mapping[str, int]]
"""Number of images by actual and predicted class; every class is a key, pairs without images are left out."""


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised; None where nothing defines the number.

    Attributes:
        images: number of its test images.
        precision: share of the images predicted as this class that belong to it.
        recall: share of its images that are predicted as it, which is the accuracy of the class.
        f1: harmonic mean of precision and recall.
    """

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(confusion: Confusion) -> dict[str, ClassScores]:
    """Scores of every class."""
    predicted: Counter[str] = Counter()
    for row in confusion.values():
        predicted.update(row)
    found = {}
    for name, row in confusion.items():
        right, images, times = row.get(name, 0), sum(row.values()), predicted[name]
        f1 = _ratio(2 * right, images + times)
        found[name] = ClassScores(images, _ratio(right, times), _ratio(right, images), f1)
    return found


def macro_average(scores: Iterable[ClassScores]) -> ClassScores:
    """Mean over the classes, each with the same weight; a class in which a number is undefined does not count."""
    scores = list(scores)
    precision, recall, f1 = ([getattr(s, name) for s in scores] for name in ("precision", "recall", "f1"))
    return ClassScores(sum(s.images for s in scores), *(_mean(values) for values in (precision, recall, f1)))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None

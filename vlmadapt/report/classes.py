"""Confusion matrix, scores of classes and reliability of one method on one data set, over all seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from vlmadapt.compare.predictions import GroupPredictions, read_predictions
from vlmadapt.compare.quality import calibration_error, confidence_and_correctness
from vlmadapt.compare.record import Entry
from vlmadapt.evaluation.accuracy import distinct
from vlmadapt.evaluation.by_class import ClassScores, class_scores
from vlmadapt.runs.run import Run

MOST_CLASSES = 40
"""Classes in a confusion matrix; of more, those that are confused most."""
BINS = 10
"""Dots of equal width in confidence; the error has its own, finer bins."""


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion matrix.

    Attributes:
        count: number of images.
        share: part of the images of the actual class, 0 to 1.
        right: whether the classes are the same.
        title: what it says, in words.
    """

    count: int
    share: float
    right: bool
    title: str


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence.

    Attributes:
        confidence: their mean confidence.
        accuracy: share of them that is right.
        images: their number.
    """

    confidence: float
    accuracy: float
    images: int


@dataclass(frozen=True)
class GroupScores:
    """Predictions for a group of classes, summed up.

    Attributes:
        name: name of the group.
        classes: number of classes.
        scores: scores of each class.
        shown: classes in the confusion matrix.
        matrix: rows by actual class, columns by predicted class.
        bins: bins that are not empty, least confident first.
        calibration_error: expected calibration error, mean over seeds, as tables have it.
    """

    name: str
    classes: int
    scores: dict[str, ClassScores]
    shown: tuple[str, ...]
    matrix: tuple[tuple[Cell, ...], ...]
    bins: tuple[Bin, ...]
    calibration_error: float


def group_scores(entries: Sequence[Entry]) -> list[GroupScores]:
    """Scores of each tested group over runs that differ only in their seed; empty if none saved its predictions."""
    by_name: dict[str, list[GroupPredictions]] = {}
    for entry in entries:
        for group in read_predictions(Run(entry.folder)) if entry.result() else ():
            by_name.setdefault(group.name, []).append(group)
    return [_scores(name, groups) for name, groups in by_name.items()]


def _scores(name: str, groups: Sequence[GroupPredictions]) -> GroupScores:
    confusion: dict[str, Counter[str]] = {actual: Counter() for actual in distinct(groups[0].classes)}
    for group in groups:
        classes = distinct(group.classes)
        for label, predicted in zip(group.labels, group.predicted, strict=True):
            confusion[classes[label]][classes[predicted]] += 1
    shown = _most_confused(confusion)
    matrix = tuple(tuple(_cells(actual, confusion[actual], shown)) for actual in shown)
    error = mean(calibration_error(*confidence_and_correctness(group)) for group in groups)
    return GroupScores(name, len(confusion), class_scores(confusion), tuple(shown), matrix, tuple(_bins(groups)), error)


def _most_confused(confusion: dict[str, Counter[str]]) -> list[str]:
    """The classes that take part in most mistakes, in their own order."""
    mistakes: Counter[str] = Counter()
    for actual, row in confusion.items():
        for predicted, count in row.items():
            if predicted != actual:
                mistakes[actual] += count
                mistakes[predicted] += count
    chosen = set(sorted(confusion, key=lambda name: -mistakes[name])[:MOST_CLASSES])
    return [name for name in confusion if name in chosen]


def _cells(actual: str, row: Counter[str], shown: Sequence[str]) -> Iterator[Cell]:
    images = sum(row.values())
    for predicted in shown:
        count = row[predicted]
        title = f"{actual}, predicted as {predicted}: {count} of {images}"
        yield Cell(count, count / max(images, 1), actual == predicted, title)


def _bins(groups: Sequence[GroupPredictions]) -> Iterator[Bin]:
    sorted_in: dict[int, list[tuple[float, bool]]] = {}
    for group in groups:
        for label, predicted, confidence in zip(group.labels, group.predicted, group.confidence, strict=True):
            place = min(int(confidence * BINS), BINS - 1)
            sorted_in.setdefault(place, []).append((confidence, label == predicted))
    for _, found in sorted(sorted_in.items()):
        n = len(found)
        yield Bin(sum(confidence for confidence, _ in found) / n, sum(right for _, right in found) / n, n)

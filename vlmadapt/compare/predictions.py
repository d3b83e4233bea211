"""Predictions of runs for single test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmadapt.compare.record import Entry
from vlmadapt.errors import VlmadaptError
from vlmadapt.roles import SEEN, UNKNOWN
from vlmadapt.runs.run import ANSWERS, DATA, Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class GroupPredictions:
    """Predictions of one run for the test images of one group of classes.

    Attributes:
        name: name of the group.
        role: role of its classes, 'seen', 'unseen' or 'unknown'.
        classes: class names.
        knows: for each class, whether the run was trained on it.
        images: files of the test images, relative to the folder of the data.
        labels: index of the correct class of each image.
        predicted: index of the predicted class of each image.
        confidence: probability of the predicted class.
    """

    name: str
    role: str
    classes: tuple[str, ...]
    knows: tuple[bool, ...]
    images: tuple[str, ...]
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    confidence: tuple[float, ...]


def read_predictions(run: Run) -> list[GroupPredictions]:
    """Predictions of a run by group; empty if the run did not save them.

    Raises:
        VlmadaptError: `answers.json` or `data.json` is damaged, or they do not belong together.
    """
    kept = run.answers()
    if kept is None:
        return []
    manifest = run.manifest()
    tested = {group["name"]: group for group in manifest["test"]}
    trained = frozenset(manifest["classes"])
    try:
        return [_group(tested[answers["name"]], answers, trained) for answers in kept]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise VlmadaptError(f"'{run.folder / ANSWERS}' does not fit {DATA}; the run cannot be used.") from error


def _group(tested: dict[str, Any], answers: dict[str, Any], trained: frozenset[str]) -> GroupPredictions:
    """Images and labels of a group with their predictions.

    A class is known by its role, and in a group of both kinds by its name.

    Raises:
        KeyError, IndexError, TypeError, ValueError: they do not fit.
    """
    images, labels = zip(*tested["examples"], strict=True)
    predicted, confidence = tuple(answers["chosen"]), tuple(answers["confidence"])
    if not len(images) == len(predicted) == len(confidence):
        raise ValueError("numbers of images and answers differ")
    if not all(0 <= index < len(tested["classes"]) for index in (*labels, *predicted)):
        raise IndexError("a class index is out of range")
    role, classes = tested["role"], tuple(tested["classes"])
    knows = tuple(name in trained if role == UNKNOWN else role == SEEN for name in classes)
    return GroupPredictions(tested["name"], role, classes, knows, images, labels, predicted, confidence)


@dataclass(frozen=True)
class Correct:
    """Which test images of a group one run classified correctly.

    Attributes:
        images: files of the test images and the index of the correct class of each.
        correct: (images,) 1 for a correct prediction, else 0.
    """

    images: tuple[tuple[str, int], ...]
    correct: NDArray[np.float64]


def read_correct(entry: Entry) -> dict[str, Correct]:
    """Which images a run classified correctly, by tested group; empty without saved predictions."""
    import numpy as np

    return {
        group.name: Correct(
            tuple(zip(group.images, group.labels, strict=True)),
            (np.array(group.predicted) == np.array(group.labels)).astype(float),
        )
        for group in read_predictions(Run(entry.folder))
    }

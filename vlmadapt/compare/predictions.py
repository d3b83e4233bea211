"""Predictions of runs for single test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmadapt.compare.record import Entry
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.run import ANSWERS, DATA, Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Correct = dict[str, "NDArray[np.float64]"]
"""By tested group, the fraction of seeds that classified each test image correctly, (images,)."""


@dataclass(frozen=True)
class GroupPredictions:
    """Predictions of one run for the test images of one group of classes.

    Attributes:
        name: name of the group.
        classes: class names.
        images: files of the test images, relative to the folder of the data.
        labels: index of the correct class of each image.
        predicted: index of the predicted class of each image.
        confidence: probability of the predicted class.
    """

    name: str
    classes: tuple[str, ...]
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
    tested = {group["name"]: group for group in run.manifest()["test"]}
    try:
        return [_group(tested[answers["name"]], answers) for answers in kept]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise VlmadaptError(f"'{run.folder / ANSWERS}' does not fit {DATA}; the run cannot be used.") from error


def _group(tested: dict[str, Any], answers: dict[str, Any]) -> GroupPredictions:
    """Images and labels of a group with their predictions.

    Raises:
        KeyError, IndexError, TypeError, ValueError: they do not fit.
    """
    images, labels = zip(*tested["examples"], strict=True)
    predicted, confidence = tuple(answers["chosen"]), tuple(answers["confidence"])
    if not len(images) == len(predicted) == len(confidence):
        raise ValueError("numbers of images and answers differ")
    if not all(0 <= index < len(tested["classes"]) for index in (*labels, *predicted)):
        raise IndexError("a class index is out of range")
    return GroupPredictions(tested["name"], tuple(tested["classes"]), images, labels, predicted, confidence)


def read_correct(entries: Sequence[Entry]) -> Correct:
    """Correctness averaged over runs that differ only in their seed; empty if a run did not save its predictions."""
    import numpy as np

    runs = [_correct(entry) for entry in entries if entry.result() is not None]
    if not runs or any(not run or _sizes(run) != _sizes(runs[0]) for run in runs):
        return {}
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def _correct(entry: Entry) -> Correct:
    import numpy as np

    groups = read_predictions(Run(entry.folder))
    return {group.name: (np.array(group.predicted) == np.array(group.labels)).astype(float) for group in groups}


def _sizes(correct: Correct) -> dict[str, int]:
    return {name: len(values) for name, values in correct.items()}

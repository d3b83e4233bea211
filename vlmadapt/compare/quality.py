"""What accuracy does not say: calibration, known from unknown classes, selective accuracy and the worst class.

Everything follows from `answers.json`, which has the predicted class of each test image and its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from vlmadapt.compare.aggregate import MeanStd
from vlmadapt.compare.predictions import GroupPredictions, read_predictions
from vlmadapt.compare.record import Comparison, Entry
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN
from vlmadapt.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 15
"""Bins of the expected calibration error."""
COVERAGE = 0.8
"""Fraction of the images, the most confident ones, that selective accuracy counts."""
ROLES = (SEEN, UNSEEN, UNKNOWN)


@dataclass(frozen=True)
class Quality:
    """Qualities of a method on one data set, over its seeds, in percent.

    Attributes:
        method: registered name.
        data: data set.
        shots: training images per class.
        values: by quality and role of the tested classes; the mean over the groups of that role.
        worst: by role, the class with the lowest accuracy over all seeds and its accuracy.
    """

    method: str
    data: str
    shots: int
    values: dict[tuple[str, str], MeanStd]
    worst: dict[str, tuple[str, float]]


def qualities(comparison: Comparison) -> list[Quality]:
    """Qualities of all methods, data sets and numbers of shots whose runs saved their predictions."""
    grid = ((m, d, k) for d in comparison.data for k in comparison.shots for m in comparison.methods)
    found = (_quality(method, data, shots, comparison.of(method, data, shots)) for method, data, shots in grid)
    return [quality for quality in found if quality is not None]


def _quality(method: str, data: str, shots: int, entries: Sequence[Entry]) -> Quality | None:
    folders = dict.fromkeys(entry.folder for entry in entries if entry.result() is not None)
    runs = [groups for folder in folders if (groups := read_predictions(Run(folder)))]
    if not runs:
        return None
    numbers = [_of_run(groups) for groups in runs]
    values = {key: MeanStd.of([n[key] for n in numbers]) for key in numbers[0] if all(key in n for n in numbers)}
    return Quality(method, data, shots, values, _worst(runs))


def _of_run(groups: Sequence[GroupPredictions]) -> dict[tuple[str, str], float]:
    """Qualities of one run in percent by name and role."""
    found: dict[tuple[str, str], float] = {}
    for role in ROLES:
        tested = [confidence_and_correctness(group) for group in groups if group.role == role]
        if tested:
            found["ECE", role] = 100 * mean(calibration_error(*arrays) for arrays in tested)
            found["Brier", role] = 100 * mean(brier_score(*arrays) for arrays in tested)
            found["selective", role] = 100 * mean(selective_accuracy(*arrays) for arrays in tested)
    separated = _known_from_unknown(groups)
    if separated is not None:
        found["AUROC", ""] = 100 * separated
    return found


def confidence_and_correctness(group: GroupPredictions) -> tuple[Floats, Floats]:
    """Confidence and correctness (images,)."""
    import numpy as np

    correct = np.array(group.predicted) == np.array(group.labels)
    return np.array(group.confidence), correct.astype(float)


def calibration_error(confidence: Floats, correct: Floats) -> float:
    """Expected calibration error (Guo et al., ICML 2017): |accuracy - confidence| in `BINS` bins, weighted by size."""
    import numpy as np

    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def brier_score(confidence: Floats, correct: Floats) -> float:
    """Mean squared difference between the predicted class's probability and its correctness (0 or 1)."""
    return float(((confidence - correct) ** 2).mean())


def selective_accuracy(confidence: Floats, correct: Floats) -> float:
    """Accuracy on the `COVERAGE` most confident images; of equally confident ones the mean is taken."""
    import numpy as np

    count = max(1, round(COVERAGE * len(confidence)))
    least = np.sort(confidence)[-count]
    above, equal = confidence > least, confidence == least
    return float((correct[above].sum() + (count - above.sum()) * correct[equal].mean()) / count)


def auroc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: probability that a positive scores higher than a negative, ties counting half."""
    import numpy as np

    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    equal = np.searchsorted(ordered, positive, "right") - below
    return float((below + 0.5 * equal).mean() / len(negative))


def _known_from_unknown(groups: Sequence[GroupPredictions]) -> float | None:
    """AUROC of the confidence on images of classes trained on against that on others; None if one kind is missing."""
    import numpy as np

    confidence = np.concatenate([np.array(group.confidence) for group in groups])
    known = np.concatenate([np.array([group.knows[label] for label in group.labels]) for group in groups])
    if known.all() or not known.any():
        return None
    return auroc(confidence[known], confidence[~known])


def _worst(runs: Sequence[Sequence[GroupPredictions]]) -> dict[str, tuple[str, float]]:
    """By role, the class with the lowest accuracy in percent, over all runs."""
    right: dict[tuple[str, str], list[bool]] = {}
    for group in (group for groups in runs for group in groups):
        for label, predicted in zip(group.labels, group.predicted, strict=True):
            right.setdefault((group.role, group.classes[label]), []).append(label == predicted)
    accuracy = {key: 100 * mean(answers) for key, answers in right.items()}
    roles = dict.fromkeys(role for role, _ in accuracy)
    lowest = {role: min((value, name) for (of, name), value in accuracy.items() if of == role) for role in roles}
    return {role: (name, value) for role, (value, name) in lowest.items()}

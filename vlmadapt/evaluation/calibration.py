"""Calibrated probabilities, and thresholds below which no class is named, both from validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.data.dataset import Example
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError
from vlmadapt.roles import SEEN
from vlmadapt.runs.session import Session

BATCH = 128
MOST = 1000
"""Validation images that are used; more make no difference to one number."""
STEPS = 80
"""Halvings of the interval that the inverse temperature is searched in, which reach float64's precision."""

Certainty = Literal["probability", "energy", "method"]
"""Measure of how certain a classifier is of an image.

It is the largest probability, the log-sum-exp of the scores, or the method's own, `Method.certainty`.
"""


@dataclass(frozen=True)
class Calibration:
    """Temperature and certainties of a classifier on validation images of the classes it was trained on.

    Attributes:
        temperature: probabilities are `softmax(scores / temperature)`.
        images: number of validation images.
        probability: percentiles 0, 1, ..., 100 of the largest calibrated probability of the images.
        energy: the same of the log-sum-exp of the scores, the negative energy of Liu et al., Energy-based
            Out-of-distribution Detection, NeurIPS 2020.
        method: the same of the method's own certainty; empty if it has none.
    """

    temperature: float
    images: int
    probability: list[float]
    energy: list[float]
    method: list[float] = field(default_factory=list)

    def threshold(self, share: float, by: Certainty) -> float:
        """The certainty that a share (0 to 1) of the validation images is below.

        Raises:
            DataError: the method has no certainty of its own.
        """
        known = getattr(self, by)
        if not known:
            raise DataError("the method has no certainty of its own; use --reject_by probability or energy.")
        return float(torch.tensor(known, dtype=torch.float64).quantile(share))

    def to_json(self) -> dict[str, Any]:
        """Content of a run's `calibration.json`; without `method` where that is empty."""
        return {name: value for name, value in asdict(self).items() if value or name != "method"}


def certainty(scores: Tensor, by: Certainty, temperature: float = 1.0, own: Tensor | None = None) -> Tensor:
    """Certainty (B,) of scores (B, classes); `own` is that of the method.

    Raises:
        DataError: the method has none of its own.
    """
    if by == "method":
        if own is None:
            raise DataError("the method has no certainty of its own; use --reject_by probability or energy.")
        return own.double()
    if by == "energy":
        return scores.double().logsumexp(dim=-1)
    return probabilities(scores, temperature).amax(dim=-1)


def probabilities(scores: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities (B, classes) of scores, in float64."""
    return (scores.double() / temperature).softmax(dim=-1)


def fit_calibration(scores: Tensor, labels: Tensor, own: Tensor | None = None) -> Calibration:
    """Calibration from scores (N, classes), labels (N,) and the method's certainties (N,) of validation images."""
    temperature = fit_temperature(scores, labels)
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    measures: tuple[Certainty, ...] = ("probability", "energy") if own is None else ("probability", "energy", "method")
    percentiles = [certainty(scores, by, temperature, own).quantile(shares).tolist() for by in measures]
    return Calibration(temperature, len(labels), *percentiles)


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest cross entropy on validation images.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Cross entropy is convex in
    `b = 1 / temperature`; its derivative is `E[sum_c (p_c - t_c) s_c]` with scores `s`, probabilities `p` at `b` and
    targets `t`. Targets are smoothed by 1 / (N + 2), as in Platt scaling, so that validation
    images that are all classified correctly do not give a temperature of zero.

    Args:
        scores: (N, classes).
        labels: (N,).
    """
    scores = scores.double()
    smoothing = 1 / (len(labels) + 2)
    targets = (1 - smoothing) * F.one_hot(labels, scores.shape[1]) + smoothing / scores.shape[1]
    low, high = -10.0, 10.0  # logarithm of b
    for _ in range(STEPS):
        middle = (low + high) / 2
        p = (scores * torch.tensor(middle, dtype=torch.float64).exp()).softmax(dim=-1)
        low, high = (low, middle) if ((p - targets) * scores).sum() > 0 else (middle, high)
    return float(torch.tensor(-(low + high) / 2, dtype=torch.float64).exp())


def calibrate(
    classifier: Classifier, classes: Sequence[str], examples: Sequence[Example], session: Session
) -> Calibration | None:
    """Calibration on the validation images of the classes trained on, of `MOST` images at most.

    None without images, and for methods that adapt to test images, whose scores have no fixed spread.

    Every process computes all of it, as for methods that read validation images.
    """
    used = examples[:: -(-len(examples) // MOST)] if examples else ()
    if not used or classifier.method.streams or classifier.method.test_views > 1:
        return None
    batches = eval_batches(used, test_transform(classifier.backbone.preprocess_config), BATCH, workers=session.workers)
    with classifier.unchanged():
        found = [classifier.scores_and_certainty(b.images.to(classifier.device), classes, SEEN) for b in batches]
    scores = torch.cat([scores.cpu() for scores, _ in found])
    own = [certainty.cpu() for _, certainty in found if certainty is not None]
    return fit_calibration(scores, torch.tensor([example.label for example in used]), torch.cat(own) if own else None)

"""Linear probe (Radford et al., ICML 2021), with the protocol of the few-shot literature."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    IMAGE,
    Backbone,
    DataError,
    ForwardPass,
    Recipe,
    Support,
    SupportMethod,
    Task,
    VlmadaptError,
    assign,
    collect,
)

# First grid of the search for C: exponents of ten.
COARSE = (6, 4, 2, 0, -2, -4, -6)
REFINEMENTS = 8


@dataclass
class LinearProbeConfig:
    """Options of the linear probe.

    Args:
        validation_shots: maximum number of validation images per class used to choose C, capped at the number of
            support images of the largest class; 0 for none.
        c: inverse regularisation strength C if there are no validation images; the value in CLIP's own example.
        max_iter: maximum number of L-BFGS iterations.
    """

    validation_shots: int = 4
    c: float = 0.316
    max_iter: int = 1000


class LinearProbe(SupportMethod):
    """Multinomial logistic regression on frozen image features, solved by L-BFGS.

    With f the projected image feature, not normalised, z = W f + b minimises

        C sum CE(z, y) + ||W||^2 / 2

    over the support images without augmentation. C is chosen by validation accuracy: the best of seven powers of ten
    (the first one on a tie), then eight halvings, in log space, of the interval from a tenth of it to ten times it. For
    two classes, scikit-learn solves for their difference, which becomes the second class's weights; the first class's
    are zero. Official code: KaiyangZhou/CoOp (`lpclip/`), which draws other support images than all other methods; here
    all methods get the same ones.
    """

    Config = LinearProbeConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021"
    limitations: ClassVar[dict[str, str]] = {
        **SupportMethod.limitations,
        "one-class": "logistic regression needs at least two classes",
    }

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create W (classes, joint) and b (classes,), which `prepare` solves for."""
        self.weight = nn.Parameter(torch.zeros(len(task.classes), backbone.image.joint))
        self.bias = nn.Parameter(torch.zeros(len(task.classes)))

    def fitted(self) -> int:
        """Number of classes W and b were solved for."""
        return len(self.bias)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """W f + b, (B, classes)."""
        return F.linear(fwd.features(IMAGE).float(), self.weight, self.bias)

    def prepare(self, support: Support) -> None:
        """Choose C and solve for W and b.

        Raises:
            DataError: a class has no image, or there is only one class.
            VlmadaptError: scikit-learn is not installed.
        """
        solve = _solver(self.config.max_iter)
        features, labels = _arrays(*collect(next(iter(support.epochs(augmented=False)))))
        counts = np.bincount(labels, minlength=self.fitted())
        if self.fitted() < 2 or not counts.all():
            raise DataError("the linear probe needs two or more classes and a support image of each class.")
        fit = cache(lambda exponent: solve(10.0**exponent, features, labels))
        held_out = self._held_out(support, int(counts.max()))
        if held_out is None:
            solved = fit(math.log10(self.config.c))
        else:
            solved = fit(best_exponent(lambda exponent: fit(exponent).score(*held_out)))
        weight, bias = torch.from_numpy(solved.coef_), torch.from_numpy(solved.intercept_)
        if len(bias) == 1:
            weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
        assign(self.weight, weight)
        assign(self.bias, bias)

    def _held_out(self, support: Support, shots: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Features and labels of the first few validation images of each class; None if there are none."""
        few = min(self.config.validation_shots, shots)
        features, labels = _arrays(*collect(support.validation())) if few else (np.empty(0), np.empty(0, dtype=int))
        if not len(labels):
            return None
        chosen = np.concatenate([np.flatnonzero(labels == label)[:few] for label in np.unique(labels)])
        return features[chosen], labels[chosen]


def best_exponent(accuracy: Callable[[float], float]) -> float:
    """Exponent of ten found by the published search: a coarse grid, then bisection.

    Args:
        accuracy: validation accuracy for an exponent.
    """
    peak = max(COARSE, key=accuracy)  # the first one on a tie
    left, right = peak - 1.0, peak + 1.0
    best = left
    for _ in range(REFINEMENTS):
        middle = (left + right) / 2
        if accuracy(left) < accuracy(right):
            best, left = right, middle
        else:
            best, right = left, middle
    return best


def _arrays(features: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return features.double().cpu().numpy(), labels.cpu().numpy()


def _solver(max_iter: int) -> Callable[[float, np.ndarray, np.ndarray], Any]:
    """Return a function of C, features and labels that fits scikit-learn's logistic regression.

    Raises:
        VlmadaptError: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise VlmadaptError(
            "the linear probe needs scikit-learn, which is not installed; `pip install scikit-learn` or "
            "`pip install 'vlmadapt[probe]'`."
        ) from error

    def solve(c: float, features: np.ndarray, labels: np.ndarray) -> Any:
        with warnings.catch_warnings():
            # Stopping after `max_iter` is part of the published procedure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=c, max_iter=max_iter).fit(features, labels)

    return solve

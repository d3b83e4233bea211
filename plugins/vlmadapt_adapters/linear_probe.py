"""Linear probe (Radford et al., ICML 2021), as the few-shot literature runs it."""

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

from vlmadapt.plugin import IMAGE, Backbone, DataError, ForwardPass, Recipe, Support, Task, VlmadaptError
from vlmadapt_adapters.support import SupportMethod, assign, collect

# Where the search for the weight of the data starts; powers of ten.
COARSE = (6, 4, 2, 0, -2, -4, -6)
REFINEMENTS = 8


@dataclass
class LinearProbeConfig:
    """Options of the linear probe.

    Args:
        validation_shots: at most so many validation images of each class, and no more than the largest class has
            support images, choose the weight of the data; 0 uses none.
        c: the weight C of the data where nothing can choose it; CLIP's own example value.
        max_iter: iterations of L-BFGS.
    """

    validation_shots: int = 4
    c: float = 0.316
    max_iter: int = 1000


class LinearProbe(SupportMethod):
    """Multinomial logistic regression on frozen image features, solved and not trained step by step.

    With f the image feature as CLIP projects it, not normalised, z = W f + b minimises

        C sum CE(z, y) + ||W||^2 / 2

    over the support images without augmentation. C is chosen by validation accuracy: the first best of seven powers of
    ten, then eight halvings of the interval from a tenth of it to ten times it, in logarithms. Where two classes are
    told apart, scikit-learn solves for their difference, which then is the second class's row. Official code:
    KaiyangZhou/CoOp (`lpclip/`); its draw of the support images is another than that of all other methods, here it is
    the same.
    """

    Config = LinearProbeConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021"
    limitations: ClassVar[dict[str, str]] = {
        **SupportMethod.limitations,
        "one-class": "a classifier of a single class has nothing to tell apart",
    }

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create W and b, which `prepare` solves for."""
        self.weight = nn.Parameter(torch.zeros(len(task.classes), backbone.image.joint))
        self.bias = nn.Parameter(torch.zeros(len(task.classes)))

    def fitted(self) -> int:
        """The number of classes it was solved for."""
        return len(self.bias)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """W f + b, (B, classes)."""
        return F.linear(fwd.features(IMAGE).float(), self.weight, self.bias)

    def prepare(self, support: Support) -> None:
        """Solve for W and b.

        Raises:
            DataError: a class has no image, or there is only one class.
            VlmadaptError: scikit-learn is not installed.
        """
        solve = _solver(self.config.max_iter)
        features, labels = _arrays(*collect(next(iter(support.epochs(augmented=False)))))
        counts = np.bincount(labels, minlength=self.fitted())
        if self.fitted() < 2 or not counts.all():
            raise DataError("the linear probe needs two or more classes and a support image of each of them.")
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
        """The first few validation images of each class, None where there are none."""
        few = min(self.config.validation_shots, shots)
        features, labels = _arrays(*collect(support.validation())) if few else (np.empty(0), np.empty(0, dtype=int))
        if not len(labels):
            return None
        chosen = np.concatenate([np.flatnonzero(labels == label)[:few] for label in np.unique(labels)])
        return features[chosen], labels[chosen]


def best_exponent(accuracy: Callable[[float], float]) -> float:
    """The power of ten that the published search ends at, for an accuracy by power of ten."""
    peak = max(COARSE, key=accuracy)  # the first of the best
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
    """scikit-learn's logistic regression as a function of C, features and labels."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise VlmadaptError(
            "the linear probe is solved by scikit-learn, which is not installed; `pip install scikit-learn` or "
            "`pip install 'vlmadapt[probe]'`."
        ) from error

    def solve(c: float, features: np.ndarray, labels: np.ndarray) -> Any:
        with warnings.catch_warnings():
            # Stopping after `max_iter` is part of the published procedure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=c, max_iter=max_iter).fit(features, labels)

    return solve

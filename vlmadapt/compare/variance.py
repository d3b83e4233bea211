"""Where the uncertainty of a difference comes from: data sets, seeds or test images; and what would reduce it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from vlmadapt.compare.measured import Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POWER = 0.8
"""Probability with which an experiment that is advised would show the difference, if that is as measured."""
MOST_SETS, MOST_SEEDS = 500, 100
"""Largest experiment that is advised."""


@dataclass(frozen=True)
class VarianceSplit:
    """Components of variance of the difference between a method and the reference, in squared percentage points.

    The mean over D data sets with S seeds has the variance `(sets + seeds / S + images) / D`.

    Attributes:
        method: method compared with the reference.
        difference: mean difference in percentage points.
        sets: variance of the true difference between data sets; None with a single one.
        seeds: variance between trainings on one data set; None with a single seed.
        images: variance that the choice of test images adds on one data set; None without saved predictions.
    """

    method: str
    difference: float
    sets: float | None
    seeds: float | None
    images: float | None

    def standard_error(self, sets: int, seeds: int, *, same_sets: bool = False) -> float:
        """Standard error of the mean difference; with `same_sets` of a statement on these data sets alone."""
        between = 0.0 if same_sets else self.sets or 0.0
        return sqrt((between + (self.seeds or 0.0) / seeds + (self.images or 0.0)) / sets)

    def shares(self, seeds: int) -> dict[str, float]:
        """Fraction of the variance of the mean by source; empty if nothing varies."""
        parts = {"data sets": self.sets, "seeds": None if self.seeds is None else self.seeds / seeds}
        known = {name: part for name, part in (parts | {"test images": self.images}).items() if part is not None}
        whole = sum(known.values())
        return {name: part / whole for name, part in known.items()} if whole else {}


def split_variance(measured: Measured, method: int, reference: int = 0) -> VarianceSplit:
    """Components of variance by the method of moments of a balanced nested design.

    The metric is linear around each method's average (exact for accuracies, delta method for harmonic means). Images
    are crossed with seeds: their component is the variance of an image's mean over seeds, less the part that the
    interaction of image and seed adds to it; the interaction counts as seeds.
    """
    import numpy as np

    average = measured.accuracy.mean(axis=(1, 2))
    slope = measured.gradient(average)  # (M, G)
    linear = np.einsum("mdsg,mg->mds", measured.accuracy, slope)
    difference = linear[method] - linear[reference]  # (D, S)
    sets, seeds = difference.shape
    over_seeds = float(difference.var(axis=1, ddof=1).mean()) if seeds > 1 else None
    images = _image_variance(measured, slope, method, reference)
    between = None
    if sets > 1:
        explained = (over_seeds or 0.0) / seeds + (images or 0.0)
        between = max(0.0, float(difference.mean(axis=1).var(ddof=1)) - explained)
    scores = measured.average_scores
    return VarianceSplit(
        measured.methods[method], float(scores[method] - scores[reference]), between, over_seeds, images
    )


def _image_variance(measured: Measured, slope: Floats, method: int, reference: int) -> float | None:
    """Mean over data sets of the variance that the choice of test images gives a difference."""
    found = []
    for correct in measured.correct:
        if correct is None:
            return None
        pairs = (
            100 * (slope[method, g] * group[method] - slope[reference, g] * group[reference])
            for g, group in enumerate(correct)
        )
        found.append(sum(_crossed(values) for values in pairs))
    return sum(found) / len(found)


def _crossed(values: Floats) -> float:
    """Variance of the mean of values (S, images) that comes from the images."""
    seeds, images = values.shape
    if images < 2:
        return 0.0
    of_images = float(values.mean(axis=0).var(ddof=1))
    if seeds > 1:
        rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        of_images -= float((rest**2).sum()) / ((seeds - 1) * (images - 1)) / seeds
    return max(0.0, of_images) / images


@dataclass(frozen=True)
class Advice:
    """How much more would decide a comparison, if the difference is as measured.

    Attributes:
        method: method compared with the reference.
        general: whether the statement is about data sets in general, or about these ones alone.
        sets: more data sets with as many seeds; None if `MOST_SETS` are not enough, or for these data sets alone.
        seeds: more seeds on these data sets; None if `MOST_SEEDS` are not enough.
    """

    method: str
    general: bool
    sets: int | None
    seeds: int | None


def advise(split: VarianceSplit, sets: int, seeds: int, *, general: bool) -> Advice:
    """Smallest experiments that show the measured difference with probability `POWER` in a two-sided 5 % test."""
    more_sets = (n for n in range(sets, MOST_SETS + 1) if general and _shows(split, n, seeds, general=True))
    more_seeds = (n for n in range(seeds, MOST_SEEDS + 1) if _shows(split, sets, n, general=general))
    found_sets, found_seeds = next(more_sets, None), next(more_seeds, None)
    return Advice(
        split.method,
        general,
        None if found_sets is None else found_sets - sets,
        None if found_seeds is None else found_seeds - seeds,
    )


def _shows(split: VarianceSplit, sets: int, seeds: int, *, general: bool) -> bool:
    """Whether an experiment of this size has the power; over data sets with Student's t, else with the normal one."""
    from scipy.special import ndtri, stdtrit

    needed = (stdtrit(sets - 1, 0.975) + stdtrit(sets - 1, POWER)) if general else ndtri(0.975) + ndtri(POWER)
    return abs(split.difference) >= needed * split.standard_error(sets, seeds, same_sets=not general)

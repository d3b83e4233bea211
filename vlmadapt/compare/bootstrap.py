"""Hierarchical paired bootstrap: data sets, then seeds, then test images, the same draw for every method.

Of n data sets or seeds, n - 1 are drawn with replacement, which makes the variance of the mean unbiased for small n
(McCarthy and Snowden, The Bootstrap and Finite Population Sampling, 1985); of test images as many as there are.
Intervals over n data sets are expanded as Student's t is wider than the normal distribution (Hesterberg, What Teachers
Should Know About the Bootstrap, 2015). The spread between data sets already has a part that comes from seeds and
images, so these intervals are rather too wide than too narrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmadapt.compare.measured import Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000
ENOUGH_SEEDS = 3
"""Fewest seeds that are resampled, and that allow a statement about retraining."""
CONFIDENCE = 0.95
BATCH = 4_000_000
"""Drawn images held at a time."""


def resample_sets(measured: Measured) -> Floats:
    """Accuracies (RESAMPLES, M, G) averaged over drawn data sets, each with newly drawn seeds and images."""
    import numpy as np

    rng = np.random.default_rng(0)
    methods, sets, _, groups = measured.accuracy.shape
    drawn = rng.integers(sets, size=(RESAMPLES, sets - 1))
    found = np.empty((*drawn.shape, methods, groups))
    for data in range(sets):
        chosen = drawn == data
        found[chosen] = resample_within(measured, data, int(chosen.sum()), rng)
    return found.mean(axis=1)


def resample_fixed(measured: Measured) -> Floats:
    """Accuracies (RESAMPLES, M, G) averaged over these same data sets, with drawn seeds and images."""
    import numpy as np

    rng = np.random.default_rng(0)
    sets = range(len(measured.data))
    return np.mean([resample_within(measured, data, RESAMPLES, rng) for data in sets], axis=0)


def resample_within(measured: Measured, data: int, count: int, rng: np.random.Generator) -> Floats:
    """Accuracies (count, M, G) on one data set, with drawn seeds and test images.

    With too few seeds all of them are kept, and without saved predictions all images are.
    """
    import numpy as np

    seeds = len(measured.seeds)
    weights = np.full((count, seeds), 1 / seeds)
    if seeds >= ENOUGH_SEEDS:
        weights = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=count) / (seeds - 1)
    correct = measured.correct[data]
    if correct is None:
        return np.einsum("ks,msg->kmg", weights, measured.accuracy[:, data])
    by_group = [np.einsum("ks,kms->km", weights, _resample_images(group, count, rng)) for group in correct]
    return 100 * np.stack(by_group, axis=-1)


def _resample_images(correct: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Fraction of correct answers (count, M, S) on drawn images, of answers (M, S, images)."""
    import numpy as np

    methods, seeds, images = correct.shape
    answers = correct.reshape(-1, images).T
    parts = []
    for start in range(0, count, step := max(1, BATCH // images)):
        size = min(step, count - start)
        drawn = rng.integers(images, size=(size, images)) + images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        parts.append(times @ answers / images)
    return np.concatenate(parts).reshape(count, methods, seeds) if parts else np.empty((0, methods, seeds))


def probability_of_best(scores: Floats) -> Floats:
    """Fraction of resamples (M,) in which a method has the best score, of scores (resamples, M); ties are shared."""
    best = scores == scores.max(axis=1, keepdims=True)
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)


def tail(units: int | None = None) -> float:
    """Fraction of resamples below an interval, and above it.

    Args:
        units: number of resampled units if these are few: the tail of the normal distribution at Student's quantile.
    """
    from scipy.special import ndtr, stdtrit

    if units is None:
        return (1 - CONFIDENCE) / 2
    return float(ndtr(-stdtrit(units - 1, (1 + CONFIDENCE) / 2)))

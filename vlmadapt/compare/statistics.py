"""Bootstrap intervals, Wilcoxon tests and ranks, and explicit refusals if there is too little data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vlmadapt.compare.aggregate import HARMONIC, TARGETS, ResultRow, main_metric
from vlmadapt.compare.predictions import Correct, read_correct
from vlmadapt.compare.record import Comparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
ENOUGH_SEEDS = 3
"""Fewest seeds for a statement about retraining."""
ENOUGH_DATA = 5
"""Fewest data sets for an interval over data sets or an average rank."""
NEEDS_SCIPY = "Statistics need scipy: pip install 'vlmadapt[report]'."


@dataclass(frozen=True)
class Interval:
    """Difference of a method from the reference in percentage points, with a bootstrap interval.

    Attributes:
        method: method compared with the reference.
        over: resampled units: the test images of a data set, or the data sets.
        difference: measured difference.
        low: lower end of the 95 % bootstrap interval.
        high: upper end of the interval.
    """

    method: str
    over: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Statistics:
    """Statistics at one number of shots.

    Attributes:
        shots: training images per class.
        metric: name of the compared accuracy.
        reference: method that the others are compared with.
        images: intervals over the test images of each data set.
        datasets: intervals over the data sets.
        ranks: average rank of each method over the data sets, 1 is best; empty for few data sets.
        p_values: of Wilcoxon's signed-rank test against the reference over the data sets, Holm-Bonferroni
            adjusted.
        refusals: statements that the data does not support, and why.
    """

    shots: int
    metric: str
    reference: str
    images: tuple[Interval, ...]
    datasets: tuple[Interval, ...]
    ranks: dict[str, float]
    p_values: dict[str, float]
    refusals: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Content for `table.json`."""
        return asdict(self)


def statistics(comparison: Comparison, rows: Sequence[ResultRow], shots: int) -> Statistics:
    """Compute intervals and tests, and explain each one that too few runs do not allow.

    Raises:
        ImportError: scipy is not installed.
    """
    metric = main_metric(rows)
    singles = [row for row in rows if row.shots == shots and len(row.data) == 1 and metric in row.accuracy]
    reference, *others = comparison.methods
    scores = _complete_scores(comparison, singles, metric)
    n = len(next(iter(scores.values()), []))
    datasets, p_values, refusals = _over_data_sets(scores, reference)
    seeds = min((len(row.seeds) for row in singles), default=0)
    if seeds < ENOUGH_SEEDS:
        refusals.append(
            f"with {seeds} seed{'s' * (seeds != 1)} the intervals hold for these trained models only; a statement "
            f"about retraining takes {ENOUGH_SEEDS} seeds or more."
        )
    return Statistics(
        shots,
        metric,
        reference,
        tuple(_over_images(comparison, others, shots, metric)),
        tuple(datasets),
        _ranks(scores) if n >= ENOUGH_DATA else {},
        p_values,
        tuple(refusals),
    )


def _complete_scores(comparison: Comparison, rows: Sequence[ResultRow], metric: str) -> dict[str, NDArray[np.float64]]:
    """Scores (data sets,) of the methods that have one on every data set."""
    import numpy as np

    found = {(row.method, row.data[0]): row.accuracy[metric].mean for row in rows}
    return {
        method: np.array([found[method, data] for data in comparison.data])
        for method in comparison.methods
        if all((method, data) in found for data in comparison.data)
    }


def _over_images(comparison: Comparison, others: Sequence[str], shots: int, metric: str) -> list[Interval]:
    """Paired intervals: the same resampled images for both methods, each group resampled separately, seeds averaged."""
    intervals = []
    for data in comparison.data:
        correct = {method: read_correct(comparison.of(method, data, shots)) for method in comparison.methods}
        base = correct[comparison.methods[0]]
        for method in others:
            other = correct[method]
            groups = _counted_groups(metric, base)
            if groups and all(len(base.get(name, ())) == len(other.get(name, ())) > 0 for name in groups):
                difference = _image_interval(base, other, groups, harmonic=metric == HARMONIC)
                intervals.append(Interval(method, f"test images of {_tested(data, metric)}", *difference))
    return intervals


def _counted_groups(metric: str, correct: Correct) -> list[str]:
    """Tested groups whose images a metric counts; a run tests the data it was trained on first, then its targets."""
    return {HARMONIC: ["base", "novel"], TARGETS: list(correct)[1:]}.get(metric, [metric])


def _image_interval(
    base: Correct, other: Correct, groups: Sequence[str], *, harmonic: bool
) -> tuple[float, float, float]:
    """Difference of two methods on the same test images, and the ends of its bootstrap interval."""
    import numpy as np
    from scipy.stats import bootstrap

    def score(of: Correct, indices: Sequence[NDArray[np.int64]], axis: int) -> NDArray[np.float64]:
        means = [100 * of[name][index].mean(axis=axis) for name, index in zip(groups, indices, strict=True)]
        if harmonic:
            return len(means) / sum(1 / np.maximum(m, 1e-9) for m in means)
        return np.mean(means, axis=0)

    def difference(*indices: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        return score(other, indices, axis) - score(base, indices, axis)

    indices = tuple(np.arange(len(base[name])) for name in groups)
    found = bootstrap(
        indices,
        difference,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return float(difference(*indices, axis=-1)), float(low), float(high)


def _tested(data: str, metric: str) -> str:
    """The data set whose test images a metric counts: the one trained on, or the targets."""
    if metric == TARGETS:
        return f"the targets of {data}"
    return data if metric in (HARMONIC, "base", "all", data) else metric


def _over_data_sets(
    scores: dict[str, NDArray[np.float64]], reference: str
) -> tuple[list[Interval], dict[str, float], list[str]]:
    import numpy as np
    from scipy.stats import bootstrap, wilcoxon

    if reference not in scores or len(scores) < 2:
        return [], {}, [f"no comparison with {reference}: results of it or of all other methods are missing."]
    others = [method for method in scores if method != reference]
    n = len(scores[reference])
    differences = {method: scores[method] - scores[reference] for method in others}
    refusals = []
    intervals = []
    if n < ENOUGH_DATA:
        refusals.append(
            f"{n} data set{'s' * (n > 1)} cannot show which method is better in general; that takes {ENOUGH_DATA} or "
            "more."
        )
    else:
        for method, values in differences.items():
            found = bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0)
            low, high = found.confidence_interval
            intervals.append(Interval(method, f"{n} data sets", float(values.mean()), float(low), float(high)))
    smallest = len(others) * 2.0 ** (1 - n)
    if smallest > 1 - CONFIDENCE:
        refusals.append(
            f"no Wilcoxon test: with {n} data set{'s' * (n > 1)} and {len(others)} comparison{'s' * (len(others) > 1)} "
            f"the smallest possible p after Holm-Bonferroni is {min(smallest, 1):.2g}."
        )
        return intervals, {}, refusals
    # A method without any difference has p 1 and still counts as a comparison.
    p_values = {m: float(wilcoxon(values).pvalue) if values.any() else 1.0 for m, values in differences.items()}
    return intervals, holm_bonferroni(p_values), refusals


def _ranks(scores: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    import numpy as np
    from scipy.stats import rankdata

    ranks = rankdata(-np.stack(list(scores.values())), axis=0).mean(axis=1)
    return dict(zip(scores, map(float, ranks), strict=True))


def holm_bonferroni(p_values: dict[str, float]) -> dict[str, float]:
    """Holm-Bonferroni adjusted p-values: the i-th smallest of m times m - i + 1, never decreasing, at most 1."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - i) * p_values[name]))
        adjusted[name] = least
    return adjusted

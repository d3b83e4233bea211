"""Bootstrap intervals, rankings, variances and tests of a comparison, and refusals if there is too little data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vlmadapt.compare.aggregate import HARMONIC, TARGETS, ResultRow, main_metric
from vlmadapt.compare.bootstrap import (
    CONFIDENCE,
    ENOUGH_SEEDS,
    probability_of_best,
    resample_fixed,
    resample_sets,
    tail,
)
from vlmadapt.compare.leave_one_out import Ranking, leave_one_out
from vlmadapt.compare.measured import Measured, combine, measure
from vlmadapt.compare.tracks import TrackPart
from vlmadapt.compare.variance import Advice, VarianceSplit, advise, split_variance
from vlmadapt.registry.tracks import FEW_SHOT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENOUGH_DATA = 5
"""Fewest data sets for an interval over data sets or an average rank."""
NEEDS_SCIPY = "Statistics need scipy: pip install 'vlmadapt[report]'."


@dataclass(frozen=True)
class Interval:
    """Difference of a method from the reference in percentage points, with a bootstrap interval.

    Attributes:
        method: method compared with the reference.
        over: resampled units: data sets, seeds, test images.
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
        images: intervals for each data set, over its test images and over seeds if there are enough.
        fixed: intervals of the average over several data sets, these data sets taken as given.
        datasets: intervals over data sets, seeds and test images; empty for few data sets.
        best: probability that a method has the best average, over the same resamples as `datasets`, else as `fixed`.
        rankings: the ranking over all data sets, then without each of them; empty for few data sets.
        variances: components of variance of each difference.
        seeds: number of seeds that all runs have.
        advice: what would decide the comparisons that are undecided.
        ranks: average rank of each method over the data sets, 1 is best; empty for few data sets.
        p_values: of Wilcoxon's signed-rank test against the reference over the data sets, Holm-Bonferroni adjusted.
        refusals: statements that the data does not support, and why.
        track: of the methods, all but zero-shot ones that stand in every track.
    """

    shots: int
    metric: str
    reference: str
    images: tuple[Interval, ...]
    fixed: tuple[Interval, ...] = ()
    datasets: tuple[Interval, ...] = ()
    best: dict[str, float] | None = None
    rankings: tuple[Ranking, ...] = ()
    variances: tuple[VarianceSplit, ...] = ()
    seeds: int = 0
    advice: tuple[Advice, ...] = ()
    ranks: dict[str, float] | None = None
    p_values: dict[str, float] | None = None
    refusals: tuple[str, ...] = ()
    track: str = FEW_SHOT

    def to_json(self) -> dict[str, Any]:
        """Content for `table.json`."""
        return asdict(self)


def statistics(part: TrackPart, rows: Sequence[ResultRow], shots: int) -> Statistics:
    """Compute intervals, rankings and tests within a track, and explain each one that too few runs do not allow.

    Raises:
        ImportError: scipy is not installed.
    """
    import scipy  # noqa: F401

    comparison, metric = part.comparison, main_metric(rows)
    reference = comparison.methods[0]
    measured = [measure(comparison, metric, shots, data) for data in comparison.data]
    images = tuple(interval for of_data in measured for interval in _over_images(of_data, reference))
    whole = combine(measured)
    if whole is None or reference not in whole.methods or len(whole.methods) < 2:
        refused = f"no comparison with {reference}: results of it or of all other methods are missing."
        if len(comparison.methods) == 1:
            refused = f"no comparison: {reference} is the only method{' of its track' if part.title else ''}."
        return Statistics(shots, metric, reference, images, refusals=(refused,), track=part.track)
    return replace(_over_data_sets(whole, images, shots), track=part.track)


def _over_images(measured: Measured | None, reference: str) -> Iterator[Interval]:
    """Intervals on one data set, if the reference has results there and images or seeds can be resampled."""
    if measured is None or reference not in measured.methods or not _resampled(measured):
        return
    over = f"{_resampled(measured)} of {_tested(measured)}"
    yield from _intervals(measured, resample_fixed(measured), over)


def _over_data_sets(measured: Measured, images: tuple[Interval, ...], shots: int) -> Statistics:
    """Statistics of methods that have results on every data set, the reference first."""
    sets, seeds = len(measured.data), len(measured.seeds)
    general = sets >= ENOUGH_DATA
    fixed = resample_fixed(measured)
    drawn = resample_sets(measured) if general else fixed
    over = f"{_resampled(measured)} of these {sets} data sets"
    nested = f"{sets} data sets" + "".join(f", {name}" for name in _resampled(measured).split(" and ") if name)
    datasets = tuple(_intervals(measured, drawn, nested, sets)) if general else ()
    alone = tuple(_intervals(measured, fixed, over)) if sets > 1 and _resampled(measured) else ()
    variances = tuple(split_variance(measured, i) for i in range(1, len(measured.methods)))
    decided = {i.method for i in datasets or alone or images if i.low > 0 or i.high < 0}
    p_values, untested = _wilcoxon(measured)
    return Statistics(
        shots=shots,
        metric=measured.metric,
        reference=measured.methods[0],
        images=images,
        fixed=alone,
        datasets=datasets,
        best=_best(measured, drawn) if general or _resampled(measured) else {},
        rankings=leave_one_out(measured),
        variances=variances,
        seeds=seeds,
        advice=tuple(advise(v, sets, seeds, general=general) for v in variances if v.method not in decided),
        ranks=_ranks(measured) if general else {},
        p_values=p_values,
        refusals=(*_too_few_data_sets(sets), *untested, *_too_few_seeds(seeds)),
    )


def _resampled(measured: Measured) -> str:
    """What can be resampled on each data set."""
    seeds = "seeds" if len(measured.seeds) >= ENOUGH_SEEDS else ""
    images = "test images" if all(correct is not None for correct in measured.correct) else ""
    return " and ".join(name for name in (seeds, images) if name)


def _intervals(
    measured: Measured, drawn: NDArray[np.float64], over: str, units: int | None = None
) -> Iterator[Interval]:
    """Percentile intervals of each method's difference from the first, of accuracies (resamples, M, G)."""
    import numpy as np

    scores, found = measured.score(drawn), measured.average_scores
    low, high = np.quantile(scores - scores[:, :1], (tail(units), 1 - tail(units)), axis=0)
    for i, method in enumerate(measured.methods[1:], start=1):
        yield Interval(method, over, float(found[i] - found[0]), float(low[i]), float(high[i]))


def _best(measured: Measured, drawn: NDArray[np.float64]) -> dict[str, float]:
    """Probability of the best average by method."""
    found = probability_of_best(measured.score(drawn))
    return dict(zip(measured.methods, map(float, found), strict=True))


def _tested(measured: Measured) -> str:
    """The data set whose test images a metric counts: the one trained on, or the targets."""
    (data,), metric = measured.data, measured.metric
    if metric == TARGETS:
        return f"the targets of {data}"
    return data if metric in (HARMONIC, "base", "all", data) else metric


def _too_few_data_sets(sets: int) -> Iterator[str]:
    if sets < ENOUGH_DATA:
        yield (
            f"{sets} data set{'s' * (sets > 1)} cannot show which method is better in general; that takes "
            f"{ENOUGH_DATA} or more."
        )


def _too_few_seeds(seeds: int) -> Iterator[str]:
    if seeds < ENOUGH_SEEDS:
        yield (
            f"with {seeds} seed{'s' * (seeds != 1)} the intervals hold for these trained models only; a statement "
            f"about retraining takes {ENOUGH_SEEDS} seeds or more."
        )


def _wilcoxon(measured: Measured) -> tuple[dict[str, float], list[str]]:
    """Adjusted p-values, or the reason why no test can be significant."""
    from scipy.stats import wilcoxon

    others, sets = measured.methods[1:], len(measured.data)
    smallest = len(others) * 2.0 ** (1 - sets)
    if smallest > 1 - CONFIDENCE:
        return {}, [
            f"no Wilcoxon test: with {sets} data set{'s' * (sets > 1)} and {len(others)} "
            f"comparison{'s' * (len(others) > 1)} the smallest possible p after Holm-Bonferroni is "
            f"{min(smallest, 1):.2g}."
        ]
    differences = dict(zip(others, measured.set_scores[1:] - measured.set_scores[0], strict=True))
    # A method without any difference has p 1 and still counts as a comparison.
    p_values = {m: float(wilcoxon(values).pvalue) if values.any() else 1.0 for m, values in differences.items()}
    return holm_bonferroni(p_values), []


def _ranks(measured: Measured) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks = rankdata(-measured.set_scores, axis=0).mean(axis=1)
    return dict(zip(measured.methods, map(float, ranks), strict=True))


def holm_bonferroni(p_values: dict[str, float]) -> dict[str, float]:
    """Holm-Bonferroni adjusted p-values: the i-th smallest of m times m - i + 1, never decreasing, at most 1."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - i) * p_values[name]))
        adjusted[name] = least
    return adjusted

"""Accuracies and single answers of a comparison as arrays, complete over methods, data sets and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from vlmadapt.compare.aggregate import HARMONIC, TARGETS
from vlmadapt.compare.predictions import Correct, read_correct
from vlmadapt.compare.record import Comparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


DECIMALS = 8
"""Decimals of a score in percent: sums of the same numbers in another order differ below, and equal scores must tie."""


@dataclass(frozen=True)
class Measured:
    """Results of methods that all have the same data sets and seeds.

    Attributes:
        metric: name of the compared accuracy.
        methods: methods with results on every data set, M of them.
        data: data sets, D of them.
        seeds: seeds that every run has, S of them.
        accuracy: (M, D, S, G) percent, for the G tested groups that the metric counts.
        correct: for each data set and group (M, S, images), 1 where an image was classified correctly; None if a run
            did not save its predictions.
    """

    metric: str
    methods: tuple[str, ...]
    data: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracy: Floats
    correct: tuple[tuple[Floats, ...] | None, ...]

    def score(self, accuracy: Floats) -> Floats:
        """The metric (...) of accuracies (..., G): their harmonic mean, or their mean."""
        import numpy as np

        if self.metric != HARMONIC:
            return accuracy.mean(axis=-1)
        return accuracy.shape[-1] / (1 / np.maximum(accuracy, 1e-9)).sum(axis=-1)

    def gradient(self, accuracy: Floats) -> Floats:
        """Derivative (..., G) of the metric by each accuracy (..., G): (H / a)^2 / G for the harmonic mean H."""
        import numpy as np

        groups = accuracy.shape[-1]
        if self.metric != HARMONIC:
            return np.full_like(accuracy, 1 / groups)
        return (self.score(accuracy)[..., None] / np.maximum(accuracy, 1e-9)) ** 2 / groups

    def select(self, methods: Sequence[str], seeds: Sequence[int]) -> Measured:
        """The results of some methods and seeds."""
        import numpy as np

        rows, columns = [self.methods.index(m) for m in methods], [self.seeds.index(s) for s in seeds]
        correct = tuple(groups and tuple(group[np.ix_(rows, columns)] for group in groups) for groups in self.correct)
        accuracy = self.accuracy[rows][:, :, columns]
        return replace(self, methods=tuple(methods), seeds=tuple(seeds), accuracy=accuracy, correct=correct)

    @cached_property
    def set_scores(self) -> Floats:
        """The metric of each method on each data set (M, D), of accuracies averaged over seeds."""
        return self.score(self.accuracy.mean(axis=2)).round(DECIMALS)

    @cached_property
    def average_scores(self) -> Floats:
        """The metric of each method (M,), of accuracies averaged over seeds and data sets, as in the papers' tables."""
        return self.score(self.accuracy.mean(axis=(1, 2))).round(DECIMALS)


def measure(comparison: Comparison, metric: str, shots: int, data: str) -> Measured | None:
    """Results on one data set at one number of shots, of methods that have any; None without results."""
    import numpy as np

    found = {
        method: {e.seed: r["accuracy"] for e in comparison.of(method, data, shots) if (r := e.result())}
        for method in comparison.methods
    }
    # A run that lacks the metric, because it tested other groups, counts as missing.
    known = {m: {seed: a for seed, a in runs.items() if metric in a} for m, runs in found.items()}
    methods = tuple(method for method, runs in known.items() if runs)
    seeds = _common([known[method] for method in methods])
    if not seeds:
        return None
    groups = _groups(metric, known[methods[0]][seeds[0]])
    accuracy = np.array([[[[known[m][s][g] for g in groups] for s in seeds]] for m in methods], dtype=float)
    return Measured(
        metric, methods, (data,), seeds, accuracy, (_correct(comparison, methods, data, shots, seeds, groups),)
    )


def combine(parts: Sequence[Measured | None]) -> Measured | None:
    """One result of several data sets: methods and seeds that all of them have; None without any."""
    import numpy as np

    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    methods = tuple(m for m in known[0].methods if all(m in part.methods for part in known))
    seeds = tuple(s for s in known[0].seeds if all(s in part.seeds for part in known))
    if not methods or not seeds:
        return None
    chosen = [part.select(methods, seeds) for part in known]
    return Measured(
        known[0].metric,
        methods,
        tuple(name for part in chosen for name in part.data),
        seeds,
        np.concatenate([part.accuracy for part in chosen], axis=1),
        tuple(group for part in chosen for group in part.correct),
    )


def _common(runs: Sequence[dict[int, dict[str, float]]]) -> tuple[int, ...]:
    """Seeds that all methods have, in order."""
    return tuple(sorted(set.intersection(*map(set, runs)))) if runs else ()


def _groups(metric: str, accuracy: dict[str, float]) -> list[str]:
    """Tested groups that a metric counts; a run tests the data it was trained on first, then its targets."""
    targets = [name for name in accuracy if name != TARGETS][1:]
    return {HARMONIC: ["base", "novel"], TARGETS: targets}.get(metric, [metric])


def _correct(
    comparison: Comparison, methods: Sequence[str], data: str, shots: int, seeds: Sequence[int], groups: Sequence[str]
) -> tuple[Floats, ...] | None:
    """For each group (methods, seeds, images); None if these were not saved, or the runs tested other images."""
    import numpy as np

    runs: list[list[dict[str, Correct]]] = []
    for method in methods:
        entries = {e.seed: e for e in comparison.of(method, data, shots)}
        runs.append([read_correct(entries[seed]) for seed in seeds])
    every = [run for of_method in runs for run in of_method]
    if any(group not in run for run in every for group in groups):
        return None
    if any(run[group].images != every[0][group].images for run in every for group in groups):
        return None
    return tuple(np.array([[run[group].correct for run in of_method] for of_method in runs]) for group in groups)

"""Numbers of runs that differ by their seed, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from vlmadapt.compare.record import Comparison
from vlmadapt.evaluation.accuracy import harmonic_mean

HARMONIC, TARGETS = "harmonic_mean", "target_average"


@dataclass(frozen=True)
class Spread:
    """A number over seeds: its mean, and its sample standard deviation where there are two or more."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class Row:
    """A method on one data set, or on the average of all, with one number of shots.

    Attributes:
        method: registered name.
        data: data sets averaged over, mostly one.
        shots: training images per class.
        seeds: that have numbers.
        accuracy: percent by group; the harmonic mean is that of the means, as in the papers.
        parameters: trainable scalars.
        step_seconds: of a training step; None without training.
        memory: most bytes in use, over the runs.
        images_per_second: in testing.
        errors: of the runs that failed.
    """

    method: str
    data: tuple[str, ...]
    shots: int
    seeds: tuple[int, ...]
    accuracy: dict[str, Spread]
    parameters: int | None = None
    step_seconds: float | None = None
    memory: int | None = None
    images_per_second: float | None = None
    errors: tuple[str, ...] = field(default=())


def make_rows(comparison: Comparison) -> list[Row]:
    """Rows by data set and shots, and averages at the end where there are several data sets."""
    rows = [
        _row(comparison, method, data, shots)
        for data in comparison.data
        for shots in comparison.shots
        for method in comparison.methods
    ]
    return [*rows, *_averages(comparison, rows)]


def main_metric(rows: Sequence[Row]) -> str:
    """What methods are ranked by: the harmonic mean, or the average over targets, else what was tested last."""
    names = [name for row in rows for name in row.accuracy]
    return next((name for name in (HARMONIC, TARGETS) if name in names), names[-1] if names else "all")


def _row(comparison: Comparison, method: str, data: str, shots: int) -> Row:
    entries = comparison.of(method, data, shots)
    errors = tuple(f"seed {entry.seed}: {entry.error}" for entry in entries if entry.error)
    results = [(entry.seed, result) for entry in entries if (result := entry.result()) is not None]
    found = [result for _, result in results]
    if not found:
        return Row(method, (data,), shots, (), {}, errors=errors)
    steps = [r["seconds_per_step"] for r in found if r["seconds_per_step"] is not None]
    return Row(
        method=method,
        data=(data,),
        shots=shots,
        seeds=tuple(seed for seed, _ in results),
        accuracy=_accuracy(found),
        parameters=max(r["trainable_parameters"] for r in found),
        step_seconds=mean(steps) if steps else None,
        memory=max(r["peak_memory_bytes"] for r in found),
        images_per_second=mean(r["test_images_per_second"] for r in found),
        errors=errors,
    )


def _accuracy(results: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    by_name = {name: [r["accuracy"][name] for r in results] for name in results[0]["accuracy"]}
    return _with_harmonic_mean({name: _spread(values) for name, values in by_name.items()})


def _averages(comparison: Comparison, rows: Sequence[Row]) -> list[Row]:
    """Averages over data sets, for methods that have numbers on all of them."""
    if len(comparison.data) < 2:
        return []
    averages = []
    for shots in comparison.shots:
        for method in comparison.methods:
            same = [row for row in rows if (row.method, row.shots) == (method, shots) and row.accuracy]
            names = [name for name in same[0].accuracy if all(name in row.accuracy for row in same)] if same else []
            if len(same) == len(comparison.data) and names:
                averages.append(_average(same, names))
    return averages


def _average(rows: Sequence[Row], names: Sequence[str]) -> Row:
    means = {name: Spread(mean(row.accuracy[name].mean for row in rows)) for name in names}
    steps = [row.step_seconds for row in rows if row.step_seconds is not None]
    return Row(
        method=rows[0].method,
        data=tuple(row.data[0] for row in rows),
        shots=rows[0].shots,
        seeds=tuple(sorted(set.intersection(*(set(row.seeds) for row in rows)))),
        accuracy=_with_harmonic_mean(means),
        parameters=round(mean(row.parameters or 0 for row in rows)),
        step_seconds=mean(steps) if steps else None,
    )


def _with_harmonic_mean(accuracy: dict[str, Spread]) -> dict[str, Spread]:
    """Replace the mean of harmonic means by the harmonic mean of the means, so that it follows from its columns."""
    if HARMONIC not in accuracy:
        return accuracy
    value = harmonic_mean(accuracy["base"].mean, accuracy["novel"].mean)
    return {**accuracy, HARMONIC: Spread(value, accuracy[HARMONIC].deviation)}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)

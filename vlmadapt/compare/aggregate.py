"""Means and standard deviations over seeds, and averages over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from vlmadapt.compare.record import Comparison
from vlmadapt.evaluation.accuracy import harmonic_mean

HARMONIC, TARGETS = "harmonic_mean", "target_average"


@dataclass(frozen=True)
class MeanStd:
    """Mean over seeds, and sample standard deviation if there are two seeds or more."""

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanStd:
        """Mean and sample standard deviation of at least one value."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class ResultRow:
    """Results of a method on one data set, or on the average of all, at one number of shots.

    Attributes:
        method: registered name.
        data: data sets averaged over, mostly one.
        shots: training images per class.
        seeds: seeds that have results.
        runs: number of runs; fewer than seeds if one stands for all of them, 0 for averages.
        accuracy: percent by tested group; the harmonic mean is that of the means, as in the papers.
        parameters: number of trainable scalars.
        step_seconds: seconds per training step; None without training.
        memory: peak memory in bytes, the largest of the runs.
        images_per_second: test images per second, of runs that did not test the frozen backbone at the same time.
        device: device that the costs were measured on; several names if the runs had different ones.
        errors: messages of the runs that failed.
    """

    method: str
    data: tuple[str, ...]
    shots: int
    seeds: tuple[int, ...]
    accuracy: dict[str, MeanStd]
    parameters: int | None = None
    step_seconds: float | None = None
    memory: int | None = None
    images_per_second: float | None = None
    device: str = ""
    runs: int = 0
    errors: tuple[str, ...] = field(default=())


def make_rows(comparison: Comparison) -> list[ResultRow]:
    """Rows by data set and shots; averages at the end if there are several data sets."""
    rows = [
        _row(comparison, method, data, shots)
        for data in comparison.data
        for shots in comparison.shots
        for method in comparison.methods
    ]
    return [*rows, *_averages(comparison, rows)]


def main_metric(rows: Sequence[ResultRow]) -> str:
    """The metric that ranks methods: the harmonic mean or the average over targets, else the last tested group."""
    names = [name for row in rows for name in row.accuracy]
    return next((name for name in (HARMONIC, TARGETS) if name in names), names[-1] if names else "all")


def _row(comparison: Comparison, method: str, data: str, shots: int) -> ResultRow:
    entries = comparison.of(method, data, shots)
    errors = tuple(f"seed {entry.seed}: {entry.error}" for entry in entries if entry.error)
    results = {entry: result for entry in entries if (result := entry.result()) is not None}
    if not results:
        return ResultRow(method, (data,), shots, (), {}, errors=errors)
    found = list({entry.folder: result for entry, result in results.items()}.values())
    steps = [r["seconds_per_step"] for r in found if r["seconds_per_step"] is not None]
    alone = [r["test_images_per_second"] for r in found if "zero_shot" not in r]  # a zero-shot test takes time too
    return ResultRow(
        method=method,
        data=(data,),
        shots=shots,
        seeds=tuple(entry.seed for entry in results),
        runs=len(found),
        accuracy=_accuracy(found),
        parameters=max(r["trainable_parameters"] for r in found),
        step_seconds=mean(steps) if steps else None,
        memory=max(r["peak_memory_bytes"] for r in found),
        images_per_second=mean(alone) if alone else None,
        device=" / ".join(dict.fromkeys(entry.device() for entry in results)),
        errors=errors,
    )


def _accuracy(results: Sequence[dict[str, Any]]) -> dict[str, MeanStd]:
    """Means over seeds of the groups that all runs tested."""
    common = [name for name in results[0]["accuracy"] if all(name in r["accuracy"] for r in results)]
    return _with_harmonic_mean({name: MeanStd.of([r["accuracy"][name] for r in results]) for name in common})


def _averages(comparison: Comparison, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Averages over data sets, for methods that have results on all of them."""
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


def _average(rows: Sequence[ResultRow], names: Sequence[str]) -> ResultRow:
    means = {name: MeanStd(mean(row.accuracy[name].mean for row in rows)) for name in names}
    steps = [row.step_seconds for row in rows if row.step_seconds is not None]
    return ResultRow(
        method=rows[0].method,
        data=tuple(row.data[0] for row in rows),
        shots=rows[0].shots,
        seeds=tuple(sorted(set.intersection(*(set(row.seeds) for row in rows)))),
        accuracy=_with_harmonic_mean(means),
        parameters=round(mean(row.parameters or 0 for row in rows)),
        step_seconds=mean(steps) if steps else None,
    )


def _with_harmonic_mean(accuracy: dict[str, MeanStd]) -> dict[str, MeanStd]:
    """Replace the mean of harmonic means by the harmonic mean of the means, so that it follows from its columns."""
    if not {HARMONIC, "base", "novel"} <= accuracy.keys():
        return accuracy
    value = harmonic_mean(accuracy["base"].mean, accuracy["novel"].mean)
    return {**accuracy, HARMONIC: MeanStd(value, accuracy[HARMONIC].std)}

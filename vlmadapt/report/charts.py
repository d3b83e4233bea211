"""Charts of the results of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Literal

from vlmadapt.compare.aggregate import HARMONIC, ResultRow
from vlmadapt.compare.statistics import Interval
from vlmadapt.evaluation import titles
from vlmadapt.report.classes import GroupScores
from vlmadapt.report.labels import LINE, label_ends, label_points
from vlmadapt.report.style import COLOURS, GRID, HEIGHT, INK, WIDTH, SeriesStyle, new_chart, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SeriesStyles = dict[str, SeriesStyle]
Cost = Literal["parameters", "time"]
FAR = 20
"""Ratio of the largest to the smallest cost above which the axis is logarithmic."""


def metric_title(metric: str) -> str:
    """An axis label."""
    return f"{plain(titles.metric_title(metric))} (%)"


def base_against_novel(rows: Sequence[ResultRow], styles: SeriesStyles) -> Figure:
    """A point for each method with standard deviations over seeds, and contours of equal harmonic mean."""
    figure, axes = new_chart()
    for row in rows:
        base, novel, style = row.accuracy["base"], row.accuracy["novel"], styles[row.method]
        axes.errorbar(base.mean, novel.mean, novel.std, base.std, color=style.colour, marker=style.marker,
                      markersize=7, elinewidth=1)  # fmt: skip
    _widen(axes)
    axes.set_xlabel(metric_title("base"))
    axes.set_ylabel(metric_title("novel"))
    points = [(r.method, r.accuracy["base"].mean, r.accuracy["novel"].mean, styles[r.method].colour) for r in rows]
    label_points(axes, points)
    _contours(axes)
    return figure


def _contours(axes: Axes) -> None:
    import numpy as np

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(max(left, 1), right, 200), np.linspace(max(low, 1), high, 200))
    lines = axes.contour(x, y, 2 * x * y / (x + y), levels=6, colors=GRID, linewidths=1, linestyles="dashed", zorder=0)
    axes.grid(visible=False)
    names = [text.get_window_extent() for text in axes.texts]
    for text in axes.clabel(lines, fmt="HM %g", fontsize=7.5, colors=INK):
        if any(text.get_window_extent().overlaps(name) for name in names):
            text.remove()  # names of methods say more


def dots(
    rows: Sequence[ResultRow], metric: str, styles: SeriesStyles, baselines: Mapping[str, float] | None = None
) -> Figure:
    """A line for each method with its accuracy on one data set and standard deviation over seeds, best on top.

    Baselines are dashed lines where that leaves the methods room, and else named below the axis.
    """
    ordered = sorted(rows, key=lambda row: row.accuracy[metric].mean)
    figure, axes = new_chart(WIDTH, 1.1 + 0.24 * len(ordered))
    for height, row in enumerate(ordered):
        score, style = row.accuracy[metric], styles[row.method]
        for other, filled in (("base", True), ("novel", False)):
            if metric == HARMONIC and other in row.accuracy:
                face = style.colour if filled else "none"
                mean = row.accuracy[other].mean
                axes.plot(mean, height, "o", color=style.colour, markerfacecolor=face, markersize=3.5)
        axes.errorbar(score.mean, height, xerr=score.std, color=style.colour, marker=style.marker, markersize=7)
    axes.set_yticks(range(len(ordered)), [plain(row.method) for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    small = "\nsmall dots: base filled, novel open" if metric == HARMONIC else ""
    outside = [f"{name} {value:.1f}" for name, value in (baselines or {}).items() if not _baseline(axes, name, value)]
    below = f"\nleft of the chart: {', '.join(outside)}" if outside else ""
    axes.set_xlabel(metric_title(metric) + small + below)
    return figure


def _baseline(axes: Axes, name: str, value: float) -> bool:
    """Draw a vertical line with its name, unless the axis would have to be twice as long; whether it was drawn."""
    low, high = axes.get_xlim()
    if value < 2 * low - high:
        return False
    axes.axvline(value, color=INK, linewidth=1, linestyle="dashed", zorder=0)
    axes.annotate(name, (value, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  ha="center", va="bottom", fontsize=8, color=INK)  # fmt: skip
    return True


def reliability(groups: Sequence[GroupScores]) -> Figure:
    """Accuracy against confidence, a line for each group of classes; larger dots stand for more images."""
    figure, axes = new_chart()
    axes.plot([0, 100], [0, 100], color=GRID, linewidth=1, linestyle="dashed")
    for group, colour in zip(groups, cycle(COLOURS)):
        images = sum(found.images for found in group.bins)
        x, y = [100 * b.confidence for b in group.bins], [100 * b.accuracy for b in group.bins]
        error = f"{plain(titles.short_title(group.name))}: ECE {100 * group.calibration_error:.1f} %"
        axes.plot(x, y, color=colour, linewidth=1.2, label=error)
        axes.scatter(x, y, [12 + 160 * b.images / images for b in group.bins], color=colour)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("accuracy (%)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", labelcolor=INK)
    return figure


def shot_curves(rows: Sequence[ResultRow], metric: str, styles: SeriesStyles) -> Figure:
    """Accuracy against the number of shots, a line for each method."""
    figure, axes = _lines(len({row.method for row in rows}))
    ends = []
    for method in dict.fromkeys(row.method for row in rows):
        series = sorted((row for row in rows if row.method == method), key=lambda row: row.shots)
        shots, means = [row.shots for row in series], [row.accuracy[metric].mean for row in series]
        style = styles[method]
        errors = [row.accuracy[metric].std or 0.0 for row in series]
        axes.errorbar(shots, means, yerr=errors, color=style.colour, marker=style.marker, markersize=5, elinewidth=1)
        ends.append((method, means[-1], style.colour))
    ticks = sorted({row.shots for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(shots) for shots in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training images per class")
    axes.set_ylabel(metric_title(metric))
    label_ends(axes, ends)
    return figure


def against_cost(rows: Sequence[ResultRow], metric: str, cost: Cost, styles: SeriesStyles) -> Figure:
    """Accuracy against trainable parameters or time per step; methods without training are at 0."""
    figure, axes = new_chart()
    points = []
    for row in rows:
        score, style, at = row.accuracy[metric], styles[row.method], _cost(row, cost)
        axes.errorbar(at, score.mean, yerr=score.std, color=style.colour, marker=style.marker, markersize=7)
        points.append((row.method, at, score.mean, style.colour))
    positive = [at for _, at, _, _ in points if at]
    if positive and max(positive) > FAR * min(positive):
        _logarithmic(axes, min(positive), max(positive))
    _widen(axes)
    axes.set_xlabel({"parameters": "trainable parameters", "time": "ms per training step"}[cost])
    axes.set_ylabel(metric_title(metric))
    label_points(axes, points)
    return figure


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A log scale with room for 0, and a tick for it and for each power of ten."""
    axes.set_xscale("symlog", linthresh=low / 2, linscale=0.5)
    axes.set_xticks([0.0, *(10.0**power for power in range(ceil(log10(low)), floor(log10(high)) + 1))])
    axes.minorticks_off()


def _cost(row: ResultRow, cost: Cost) -> float:
    return float(row.parameters or 0) if cost == "parameters" else 1000 * (row.step_seconds or 0.0)


def differences(intervals: Sequence[Interval], reference: str, metric: str, styles: SeriesStyles) -> Figure:
    """Difference of each method from the reference, with its bootstrap interval."""
    ordered = sorted(intervals, key=lambda interval: interval.difference)
    figure, axes = new_chart(WIDTH, 1.1 + 0.24 * len(ordered))
    axes.axvline(0, color=INK, linewidth=1)
    for height, found in enumerate(ordered):
        style = styles[found.method]
        axes.plot([found.low, found.high], [height, height], color=style.colour, linewidth=2)
        axes.plot(found.difference, height, color=style.colour, marker=style.marker, markersize=7)
    axes.set_yticks(range(len(ordered)), [plain(interval.method) for interval in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel(f"{metric_title(metric).removesuffix(' (%)')} above {plain(reference)} (points)")
    return figure


def training_curves(history: dict[str, list[tuple[int, float]]], what: str, styles: SeriesStyles) -> Figure:
    """A metric by epoch, a line for each method; epochs in percent of each method's training."""
    figure, axes = _lines(len(history))
    ends = []
    for method, values in history.items():
        epochs, numbers = [100 * epoch / values[-1][0] for epoch, _ in values], [value for _, value in values]
        style = styles[method]
        axes.plot(epochs, numbers, color=style.colour, linewidth=1.6, marker=style.marker, markevery=[-1], markersize=5)
        ends.append((method, numbers[-1], style.colour))
    axes.set_xlim(0, 101)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("epochs done (% of each method's training)")
    axes.set_ylabel(what)
    label_ends(axes, ends)
    return figure


def _lines(count: int) -> tuple[Figure, Axes]:
    """An empty chart, high enough for the names of `count` lines."""
    return new_chart(WIDTH, max(HEIGHT, 1 + count * LINE / 72))


def _widen(axes: Axes) -> None:
    """Make room for names around the points, and a range around a single point."""
    axes.margins(0.14)
    for low, high, put in ((*axes.get_xlim(), axes.set_xlim), (*axes.get_ylim(), axes.set_ylim)):
        if axes.get_xscale() == "linear" and high - low < 2:
            put((low + high) / 2 - 1, (low + high) / 2 + 1)

"""Sections of the page: tables, charts, and what each method predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from vlmadapt.compare.aggregate import ResultRow, main_metric
from vlmadapt.compare.compare import Results
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.sentences import heading_of, sentences
from vlmadapt.compare.settings import data_name, shots_text
from vlmadapt.compare.statistics import NEEDS_SCIPY, Statistics
from vlmadapt.compare.statistics_tables import statistics_tables
from vlmadapt.compare.tables import Table
from vlmadapt.compare.tracks import TrackPart
from vlmadapt.evaluation.titles import BASELINES, short_title
from vlmadapt.report import charts
from vlmadapt.report.charts import SeriesStyles
from vlmadapt.report.classes import GroupScores, group_scores
from vlmadapt.report.mistakes import Mistakes, find_mistakes
from vlmadapt.report.style import to_svg
from vlmadapt.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 24
"""Methods times data sets above which mistakes are shown only for the reference and the best method."""


@dataclass(frozen=True)
class Chart:
    """A chart with its heading.

    Attributes:
        title: heading.
        svg: inline SVG.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class TrackCharts:
    """The charts of a track.

    Attributes:
        title: the track; "" if there is no other.
        methods: methods in the legend.
        charts: its charts.
    """

    title: str
    methods: list[str]
    charts: list[Chart]


@dataclass(frozen=True)
class Findings:
    """What the numbers of one track and number of shots say.

    Attributes:
        title: track and shots; "" if there are no others.
        lines: sentences.
        tables: the same as tables.
    """

    title: str
    lines: list[str]
    tables: list[Table]


@dataclass(frozen=True)
class Details:
    """What a method predicts on a data set.

    Attributes:
        method: registered name.
        data: title of the data set.
        shots: number of shots, in words.
        groups: scores of each tested group.
        reliability: accuracy against confidence.
        mistakes: confused classes and misclassified images.
    """

    method: str
    data: str
    shots: str
    groups: list[GroupScores]
    reliability: Chart
    mistakes: Mistakes


def data_titles(data: Sequence[str]) -> dict[str, str]:
    """A title for each data set: its short name, with as much of the path before it as tells it from the others."""
    titles = {name: data_name(name) for name in data}
    parts = {name: PurePath(name).parts for name in data}
    depth = 1
    while len(set(titles.values())) < len(titles) and depth < max(map(len, parts.values())):
        depth += 1
        counts = [*titles.values()]
        titles = {
            name: "/".join(parts[name][-depth:]) if counts.count(title) > 1 else title for name, title in titles.items()
        }
    return titles


def make_page_tables(comparison: Comparison, results: Results) -> Iterator[Table]:
    """The tables with chance and zero-shot below the methods where all runs agree on them, without empty columns."""
    for table in results.tables:
        rows = list(table.rows)
        for name, title in BASELINES.items():
            if known := baseline(comparison, table.data, table.shots, name):
                cells = {short_title(metric): f"{value:.2f}" for metric, value in known.items()}
                rows.append((title, *(cells.get(heading, "") for heading in table.columns[1:])))
        filled = [i for i in range(len(table.columns)) if any(row[i] for row in rows)]
        yield replace(
            table,
            columns=tuple(table.columns[i] for i in filled),
            rows=tuple(tuple(row[i] for i in filled) for row in rows),
            best=tuple(table.best[i] for i in filled),
        )


def baseline(comparison: Comparison, data: Sequence[str], shots: int, name: str) -> dict[str, float]:
    """Accuracies of chance or zero-shot on one data set; empty unless all runs that tested it found the same."""
    if len(data) > 1:
        return {}
    entries = [e for e in comparison.entries if (e.data, e.shots) == (data[0], shots)]
    found = [result[name] for e in entries if (result := e.result()) and name in result]
    return dict(found[0]) if found and all(other == found[0] for other in found) else {}


def make_findings(statistics: Sequence[Statistics] | None) -> Iterator[Findings]:
    """What the numbers say, by number of shots and track."""
    if statistics is None:
        yield Findings("", [NEEDS_SCIPY], [])
    for found in statistics or ():
        yield Findings(heading_of(found, statistics or ()), list(sentences(found)), list(statistics_tables([found])))


def make_charts(results: Results, styles: SeriesStyles) -> Iterator[TrackCharts]:
    """All charts that the results allow, track by track."""
    for number, part in enumerate(results.parts):
        drawn = []
        for title, name, figure in _track_charts(part, results, styles):
            described = ", ".join(filter(None, [title, part.title]))
            drawn.append(Chart(title, to_svg(figure, f"{name}-{number}", described)))
        if drawn:
            yield TrackCharts(part.title, part.comparison.methods, drawn)


def _track_charts(part: TrackPart, results: Results, styles: SeriesStyles) -> Iterator[tuple[str, str, Figure]]:
    """Heading, name that is unique within the track, and figure."""
    comparison = part.comparison
    rows = [row for row in part.own(results.rows) if row.accuracy]
    metric = main_metric(rows)
    most = max(comparison.shots, default=0)
    titles = data_titles(comparison.data)
    for i, (data, found) in enumerate(_by_data(rows)):
        title = titles[data[0]] if len(data) == 1 else f"average of {len(data)} data sets"
        shown = [row for row in found if row.shots == most]
        known = {title: baseline(comparison, data, most, name) for name, title in BASELINES.items()}
        lines = {name: values[metric] for name, values in known.items() if metric in values}
        for name, heading, figure in _charts(shown, found, metric, styles, lines, whole=i == 0):
            yield f"{title}: {heading}", f"{name}-{i}", figure
    statistics = [found for found in results.statistics or () if (found.track, found.shots) == (part.track, most)]
    for i, (over, heading, figure) in enumerate(_intervals(statistics, styles)):
        yield f"{heading}, {over}", f"intervals-{i}", figure
    for i, data_set in enumerate(comparison.data):
        for what, title, scale in (("loss", "training loss", 1.0), ("train_accuracy", "training accuracy (%)", 100.0)):
            history = _history(comparison, data_set, most, what, scale)
            if history:
                heading = f"{titles[data_set]}: {title.removesuffix(' (%)')}, first seed"
                yield heading, f"{what}-{i}", charts.training_curves(history, title, styles)


def _charts(
    rows: Sequence[ResultRow],
    all_shots: Sequence[ResultRow],
    metric: str,
    styles: SeriesStyles,
    baselines: Mapping[str, float],
    whole: bool,
) -> Iterator[tuple[str, str, Figure]]:
    """Name, heading and figure of the charts of one data set, all of them only if `whole`.

    A single row has no charts, because it is in the table already.
    """
    if len(all_shots) == 1:
        return
    if whole and all({"base", "novel"} <= row.accuracy.keys() for row in rows):
        yield "scatter", "base against novel", charts.base_against_novel(rows, styles)
    yield "dots", charts.metric_title(metric).removesuffix(" (%)"), charts.dots(rows, metric, styles, baselines)
    if len({row.shots for row in all_shots}) > 1:
        yield "shots", "few-shot curves", charts.shot_curves(all_shots, metric, styles)
    if whole and len(rows) > 1 and any(row.parameters for row in rows):
        yield "parameters", "against trained parameters", charts.against_cost(rows, metric, "parameters", styles)
        yield "time", "against time per step", charts.against_cost(rows, metric, "time", styles)


def _intervals(statistics: Sequence[Statistics], styles: SeriesStyles) -> Iterator[tuple[str, str, Figure]]:
    """Resampled unit, heading and figure of the intervals."""
    for found in statistics:
        every = [*found.datasets, *found.fixed, *found.images]
        for over in dict.fromkeys(interval.over for interval in every):
            same = [interval for interval in every if interval.over == over]
            figure = charts.differences(same, found.reference, found.metric, styles)
            yield over, "95 % bootstrap intervals", figure


def make_details(comparison: Comparison, results: Results) -> Iterator[Details]:
    """Predictions of each track's best method and reference first, then of the others unless there are too many."""
    titles = data_titles(comparison.data)
    for data in comparison.data:
        ranked = [_ranked(part, results.rows, data) for part in results.parts]
        first = [method for methods in ranked for method in methods[:2]]
        few = len(comparison.methods) * len(comparison.data) <= MANY
        others = [method for methods in ranked for method in methods] if few else []
        most = max(comparison.shots, default=0)
        for method in dict.fromkeys([*first, *others]):
            entries = comparison.of(method, data, most)
            found, groups = find_mistakes(entries), group_scores(entries)
            if found:
                what = f"{method} on {titles[data]}: reliability"
                drawn = to_svg(charts.reliability(groups), f"reliability-{method}-{titles[data]}", what)
                yield Details(method, titles[data], shots_text(most), groups, Chart("Reliability", drawn), found)


def _ranked(part: TrackPart, rows: Sequence[ResultRow], data: str) -> list[str]:
    """Methods of a track with results on a data set at the most shots: the best, the reference, then by accuracy."""
    metric, most = main_metric(part.own(rows)), max(part.comparison.shots, default=0)
    found = [r for r in part.own(rows) if r.data == (data,) and r.shots == most and metric in r.accuracy]
    ranked = [row.method for row in sorted(found, key=lambda row: -row.accuracy[metric].mean)]
    reference = [method for method in part.comparison.methods[:1] if method in ranked]
    return list(dict.fromkeys([*ranked[:1], *reference, *ranked]))


def _by_data(rows: Sequence[ResultRow]) -> Iterator[tuple[tuple[str, ...], list[ResultRow]]]:
    """Rows by data set, the average over data sets first."""
    kinds = sorted(dict.fromkeys(row.data for row in rows), key=lambda data: -len(data))
    for kind in kinds:
        yield kind, [row for row in rows if row.data == kind]


def _history(
    comparison: Comparison, data: str, shots: int, what: str, scale: float
) -> dict[str, list[tuple[int, float]]]:
    """A metric by epoch for each method, of its first run that logged it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for method in comparison.methods:
        for entry in comparison.of(method, data, shots):
            values = [(epoch["epoch"], scale * epoch[what]) for epoch in Run(entry.folder).metrics() if what in epoch]
            if len(values) > 1:  # one epoch makes no line
                found[method] = values
                break
    return found

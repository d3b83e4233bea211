"""Results as tables of text, independent of the file format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlmadapt.compare.aggregate import ResultRow
from vlmadapt.compare.leaks import marks
from vlmadapt.compare.published import Published, match, reruns
from vlmadapt.compare.settings import shots_text
from vlmadapt.compare.tracks import TrackPart
from vlmadapt.evaluation.titles import short_title

FLAW = "*"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: protocol, data, backbone and shots.
        columns: headings; the first is the method.
        rows: a text for each column.
        best: for each column, the rows with the best accuracy; empty for columns without accuracies.
        whole: whether it is about all data sets.
        data: data sets that it is about.
        shots: training images per class.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: tuple[frozenset[int], ...]
    whole: bool = False
    data: tuple[str, ...] = ()
    shots: int = 0


Column = tuple[str, list[str], frozenset[int]]
"""Heading, a text for each row, and the best rows."""


def table_of(title: str, columns: Sequence[Column]) -> Table:
    """A table from its columns."""
    lines = tuple(zip(*(texts for _, texts, _ in columns), strict=True))
    return Table(title, tuple(heading for heading, _, _ in columns), lines, tuple(best for _, _, best in columns))


def make_tables(parts: Sequence[TrackPart], rows: Sequence[ResultRow]) -> list[Table]:
    """A table for each data set, number of shots and track."""
    kinds = dict.fromkeys((row.data, row.shots) for row in rows)
    return [
        _table(part, data, shots, own)
        for data, shots in kinds
        for part in parts
        if (own := part.own([row for row in rows if (row.data, row.shots) == (data, shots)]))
    ]


def _table(part: TrackPart, data: tuple[str, ...], shots: int, rows: Sequence[ResultRow]) -> Table:
    comparison = part.comparison
    name = data[0] if len(data) == 1 else f"average of {len(data)} data sets"
    title = f"{comparison.protocol} on {name}, {comparison.backbone}, {shots_text(shots)}"
    title += f", {part.title}" if part.title else ""
    published = [match(row, comparison) for row in rows]
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.accuracy))
    again = [reruns(row, comparison) for row in rows]
    names = [f"{row.method} {marks(comparison, row.method)}".strip() for row in rows]
    columns: list[Column] = [("method", names, frozenset())]
    for metric in metrics:
        columns.append((short_title(metric), [_accuracy(row, metric) for row in rows], _best(rows, metric)))
        if any(p and metric in p.values for p in published):
            texts = [_published(row, metric, p) for row, p in zip(rows, published, strict=True)]
            columns.append((f"published {short_title(metric)} (difference)", texts, frozenset()))
        if any(metric in found.values for of_row in again for found in of_row):
            columns.append(
                (f"reruns {short_title(metric)}", [_reruns(of_row, metric) for of_row in again], frozenset())
            )
    if len(data) == 1:
        columns += [(heading, texts, frozenset()) for heading, texts in _costs(rows)]
    return replace(table_of(title, columns), whole=len(data) == len(comparison.data), data=data, shots=shots)


def _costs(rows: Sequence[ResultRow]) -> list[tuple[str, list[str]]]:
    """Costs and the device that they were measured on."""
    return [
        ("trainable", ["" if row.parameters is None else f"{row.parameters:,}" for row in rows]),
        ("ms / step", ["" if row.step_seconds is None else f"{1000 * row.step_seconds:.0f}" for row in rows]),
        ("peak GiB", ["" if row.memory is None else f"{row.memory / 2**30:.2f}" for row in rows]),
        ("test img / s", ["" if row.images_per_second is None else f"{row.images_per_second:.0f}" for row in rows]),
        ("device", [row.device for row in rows]),
        ("seeds", [_seeds(row) for row in rows]),
    ]


def _seeds(row: ResultRow) -> str:
    """Number of seeds, and whether runs failed or one stands for all."""
    failed = f" ({len(row.errors)} failed)" if row.errors else ""
    return "any" if row.runs < len(row.seeds) else f"{len(row.seeds)}{failed}"


def _accuracy(row: ResultRow, metric: str) -> str:
    return str(row.accuracy[metric]) if metric in row.accuracy else ""


def _published(row: ResultRow, metric: str, published: Published | None) -> str:
    """Published value, with a mark if it is flawed, and the difference of ours from it."""
    if published is None or metric not in published.values:
        return ""
    value = published.values[metric]
    mark = FLAW if metric in published.flaws else ""
    ours = f" ({row.accuracy[metric].mean - value:+.2f})" if metric in row.accuracy else ""
    return f"{value:.2f}{mark}{ours}"


def _reruns(found: Sequence[Published], metric: str) -> str:
    """Values of all reruns, in the order in which the notes name them."""
    return ", ".join(f"{rerun.values[metric]:.2f}" for rerun in found if metric in rerun.values)


def _best(rows: Sequence[ResultRow], metric: str) -> frozenset[int]:
    values = {i: round(row.accuracy[metric].mean, 2) for i, row in enumerate(rows) if metric in row.accuracy}
    if len(values) < 2:
        return frozenset()
    return frozenset(i for i, value in values.items() if value == max(values.values()))

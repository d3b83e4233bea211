"""Tables of the statistics: differences with what they rest on, and averages without one data set at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlmadapt.compare.leave_one_out import Ranking
from vlmadapt.compare.settings import data_name, shots_text
from vlmadapt.compare.statistics import Interval, Statistics
from vlmadapt.compare.tables import Column, Table, table_of
from vlmadapt.evaluation.titles import short_title
from vlmadapt.registry.tracks import named


def statistics_tables(statistics: Sequence[Statistics] | None) -> Iterator[Table]:
    """For each track and number of shots the differences from the reference, and averages with data sets left out."""
    for found in statistics or ():
        made = [_differences(found)] if found.variances else []
        made += [_left_out(found)] if found.rankings else []
        track = named(found.track, [s.track for s in statistics or ()])
        yield from (replace(table, title=", ".join(filter(None, [table.title, track]))) for table in made)


def _differences(found: Statistics) -> Table:
    """Broadest interval of each method's difference, probability of being best, and shares of the variance."""
    intervals = {i.method: i for i in found.datasets or found.fixed or found.images}
    methods = [split.method for split in found.variances]
    columns: list[Column] = [
        ("method", methods, frozenset()),
        ("difference", [f"{split.difference:+.2f}" for split in found.variances], frozenset()),
        ("95 % interval", [_ends(intervals, method) for method in methods], frozenset()),
    ]
    if found.best:
        columns.append(("probability of being best", [_percent(found.best[m]) for m in methods], frozenset()))
    shares = [split.shares(found.seeds) for split in found.variances]
    for source in ("data sets", "seeds", "test images"):
        if any(source in share for share in shares):
            texts = [_percent(share[source]) if source in share else "" for share in shares]
            columns.append((f"variance from {source}", texts, frozenset()))
    title = f"differences from {found.reference}: {short_title(found.metric)}, {shots_text(found.shots)}"
    return table_of(title, columns)


def _left_out(found: Statistics) -> Table:
    """Averages over all data sets but one, the best method of each column marked."""
    whole, *_ = found.rankings
    methods = list(whole.scores)
    columns: list[Column] = [("method", methods, frozenset())]
    columns += [_without(ranking, methods) for ranking in found.rankings]
    return table_of(f"average {short_title(found.metric)} without one data set, {shots_text(found.shots)}", columns)


def _without(ranking: Ranking, methods: Sequence[str]) -> Column:
    heading = f"without {data_name(ranking.without)}" if ranking.without else "all"
    return heading, [f"{ranking.scores[m]:.2f}" for m in methods], frozenset({methods.index(ranking.best)})


def _ends(intervals: dict[str, Interval], method: str) -> str:
    found = intervals.get(method)
    return "" if found is None else f"{found.low:+.2f} to {found.high:+.2f}"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"

"""Statistics of a comparison as sentences, with the claims that the data does not support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmadapt.compare.leave_one_out import Ranking
from vlmadapt.compare.settings import shots_text
from vlmadapt.compare.statistics import NEEDS_SCIPY, Interval, Statistics
from vlmadapt.compare.variance import MOST_SEEDS, MOST_SETS, POWER, Advice
from vlmadapt.evaluation.titles import short_title
from vlmadapt.registry.tracks import named
from vlmadapt.text import counted, first_few

LIKELY = 0.05
"""Smallest probability of being best that is named."""


def statistics_lines(statistics: Sequence[Statistics] | None) -> Iterator[str]:
    """One sentence for each interval, ranking, test and refusal; the broadest intervals alone."""
    if statistics is None:
        yield NEEDS_SCIPY
        return
    for found in statistics:
        prefix = heading_of(found, statistics)
        yield from (f"{prefix}: {line}" if prefix else line for line in sentences(found))


def heading_of(found: Statistics, statistics: Sequence[Statistics]) -> str:
    """What tells one of several statistics from the others: the number of shots, the track, or both."""
    shots = shots_text(found.shots) if len({each.shots for each in statistics}) > 1 else ""
    return ", ".join(filter(None, [shots, named(found.track, [each.track for each in statistics])]))


def sentences(found: Statistics) -> Iterator[str]:
    """One sentence for each interval, ranking, test and refusal of one track and number of shots."""
    yield from (_interval(found, interval) for interval in found.datasets or found.fixed or found.images)
    yield from _best(found)
    yield from _left_out(found.rankings)
    yield from _uncertainty(found)
    if found.ranks:
        ordered = sorted(found.ranks.items(), key=lambda pair: pair[1])
        yield f"average ranks: {', '.join(f'{name} {rank:.2f}' for name, rank in ordered)}"
    if found.p_values:
        pairs = ", ".join(f"{name} {p:.3g}" for name, p in found.p_values.items())
        yield f"Wilcoxon against {found.reference}, p after Holm-Bonferroni: {pairs}"
    yield from found.refusals
    yield from _advice(found)


def _interval(found: Statistics, interval: Interval) -> str:
    return (
        f"{interval.method} - {found.reference}: {short_title(found.metric)} {interval.difference:+.2f} "
        f"[{interval.low:+.2f}, {interval.high:+.2f}], 95 % bootstrap over {interval.over}"
    )


def _best(found: Statistics) -> Iterator[str]:
    """The methods that may be the best ones."""
    likely = sorted((found.best or {}).items(), key=lambda pair: -pair[1])
    named = [f"{name} {100 * p:.0f} %" for name, p in likely if p >= LIKELY]
    if named:
        where = "on data sets like these" if found.datasets else "on these data sets alone"
        yield f"probability of the best average {where}: {', '.join(named)}"


def _left_out(rankings: Sequence[Ranking]) -> Iterator[str]:
    """Whether one data set decides which method is best, and the pairs whose order one data set turns."""
    if not rankings:
        return
    whole, *others = rankings
    turned = [ranking for ranking in others if ranking.best != whole.best]
    for ranking in turned:
        yield (
            f"{ranking.without} decides: without it {ranking.best} has the best average "
            f"({ranking.scores[ranking.best]:.2f}, {whole.best} {ranking.scores[whole.best]:.2f}); with it "
            f"{whole.best} has ({whole.scores[whole.best]:.2f}, {ranking.best} {whole.scores[ranking.best]:.2f})."
        )
    if not turned:
        yield f"{whole.best} has the best average whichever data set is left out."
    pairs: dict[tuple[str, str], list[str]] = {}
    for ranking in others:
        for pair in ranking.turned:
            pairs.setdefault(pair, []).append(ranking.without)
    if pairs:
        named = first_few([f"{b} above {a} ({', '.join(sets)})" for (a, b), sets in pairs.items()])
        yield f"orders that hold only with a single data set: {named}"


def _uncertainty(found: Statistics) -> Iterator[str]:
    """The source of most of the uncertainty, over all differences."""
    shares = [share for split in found.variances if len(share := split.shares(found.seeds)) > 1]
    if not shares:
        return
    largest = max(shares[0], key=lambda source: sum(share[source] for share in shares))
    parts = sorted(100 * share[largest] for share in shares)
    low, high = f"{parts[0]:.0f}", f"{parts[-1]:.0f}"
    part = low if low == high else f"{low} to {high}"
    yield f"most of the uncertainty comes from {largest}: {part} % of the variance"


def _advice(found: Statistics) -> Iterator[str]:
    """What would decide the comparisons that are undecided; those that nothing would decide in one sentence."""
    differences = {split.method: split.difference for split in found.variances}
    for advice in found.advice:
        ways = []
        if advice.sets:
            ways.append(f"{counted(advice.sets, 'more data set')} with {counted(found.seeds, 'seed')}")
        if advice.seeds:
            ways.append(f"{counted(advice.seeds, 'more seed')} on these data sets")
        if ways:
            alone = "" if advice.seeds else "; more seeds alone would not"
            yield (
                f"{advice.method} against {found.reference}{_scope(advice)}: undecided; if the difference is "
                f"{differences[advice.method]:+.2f}, {' or '.join(ways)} would show it with {100 * POWER:.0f} % "
                f"probability{alone}."
            )
    hopeless = [advice for advice in found.advice if not (advice.sets or advice.seeds)]
    if hopeless:
        limit = f"{MOST_SETS} data sets" if hopeless[0].general else f"{MOST_SEEDS} seeds"
        yield (
            f"{', '.join(advice.method for advice in hopeless)} against {found.reference}{_scope(hopeless[0])}: "
            f"undecided; differences as small as these would not show with {limit}."
        )


def _scope(advice: Advice) -> str:
    return "" if advice.general else " on these data sets alone"

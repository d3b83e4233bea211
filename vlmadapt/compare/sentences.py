"""Statistics of a comparison as sentences, with the claims that the data does not support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmadapt.compare.settings import shots_text
from vlmadapt.compare.statistics import NEEDS_SCIPY, Statistics
from vlmadapt.evaluation.titles import short_title


def statistics_lines(statistics: Sequence[Statistics] | None) -> Iterator[str]:
    """One sentence for each interval, test and refusal; single data sets only if there are no intervals over all."""
    if statistics is None:
        yield NEEDS_SCIPY
        return
    for found in statistics:
        metric = short_title(found.metric)
        prefix = f"{shots_text(found.shots)}: " if len(statistics) > 1 else ""
        for interval in found.datasets or found.images:
            yield (
                f"{prefix}{interval.method} - {found.reference}: {metric} {interval.difference:+.2f} "
                f"[{interval.low:+.2f}, {interval.high:+.2f}], 95 % bootstrap over {interval.over}"
            )
        if found.ranks:
            ordered = sorted(found.ranks.items(), key=lambda pair: pair[1])
            yield f"{prefix}average ranks: {', '.join(f'{name} {rank:.2f}' for name, rank in ordered)}"
        if found.p_values:
            pairs = ", ".join(f"{name} {p:.3g}" for name, p in found.p_values.items())
            yield f"{prefix}Wilcoxon against {found.reference}, p after Holm-Bonferroni: {pairs}"
        yield from (f"{prefix}{refusal}" for refusal in found.refusals)

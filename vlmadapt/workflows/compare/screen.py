"""A comparison on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from vlmadapt.workflows.compare.cost import costs
from vlmadapt.workflows.compare.pool import State
from vlmadapt.workflows.compare.settings import data_name, shots_text
from vlmadapt.workflows.compare.statistics import NEEDS_SCIPY, Statistics
from vlmadapt.workflows.compare.table import TITLES, Table
from vlmadapt.workflows.compare.workflow import Findings, Planned


def show(findings: Findings, where: str) -> None:
    """Tables, statistics, notes, and where they are written."""
    console = _console()
    for table in findings.tables:
        console.print(_rich(table))
    for line in statistics_lines(findings.statistics):
        console.print(line, soft_wrap=True)
    console.print()
    for note in findings.notes:
        console.print(note, soft_wrap=True, style="dim")
    console.print(f"written to {where}: table.csv, table.md, table.tex, table.json", soft_wrap=True)


def show_plan(planned: Sequence[Planned]) -> None:
    """The runs of a comparison, how far they are, and what is known of their cost."""
    table = RichTable()
    for heading in ("method", "data", "shots", "seed", "recipe", "state", "epochs", "training time"):
        table.add_column(heading)
    total = 0.0
    unknown = 0
    for p, cost in zip(planned, costs(planned), strict=True):
        s = p.cell.settings
        unknown += cost.seconds is None
        total += cost.seconds or 0.0
        recipe = ", ".join(p.cell.recipe) or "defaults"
        time = "" if p.state is State.DONE else "unknown" if cost.seconds is None else _duration(cost.seconds)
        epochs = "" if p.state is State.DONE else "by shots" if cost.epochs is None else str(cost.epochs)
        table.add_row(s.method, data_name(s.data), str(s.shots or "all"), str(s.seed), recipe, p.state, epochs, time)
    console = _console()
    console.print(table)
    missing = sum(p.state is not State.DONE for p in planned)
    known = f"; training takes {_duration(total)} by finished runs" if total else ""
    more = f", and that of {unknown} runs is unknown" if unknown and total else ""
    for error in dict.fromkeys(p.error for p in planned if p.error):
        console.print(error, soft_wrap=True)
    console.print(f"{missing} of {len(planned)} runs are still to be done{known}{more}.", soft_wrap=True)


def statistics_lines(statistics: Sequence[Statistics] | None) -> Iterator[str]:
    """What can be said, and what cannot; of single data sets only where it is all there is."""
    if statistics is None:
        yield NEEDS_SCIPY
        return
    for found in statistics:
        metric = TITLES.get(found.metric, found.metric)
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
            yield f"{prefix}Wilcoxon against {found.reference}, p after Holm: {pairs}"
        yield from (f"{prefix}{refusal}" for refusal in found.refusals)


def _rich(table: Table) -> RichTable:
    rich = RichTable(title=table.title, title_justify="left")
    for i, heading in enumerate(table.columns):
        rich.add_column(heading, justify="right" if i else "left")
    for i, row in enumerate(table.rows):
        styled = [f"[bold]{text}[/bold]" if i in best else text for text, best in zip(row, table.best, strict=True)]
        rich.add_row(*styled)
    return rich


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _console() -> Console:
    """Tables keep their width where the output is a file."""
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    return console

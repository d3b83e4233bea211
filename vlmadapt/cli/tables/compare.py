"""Tables of a comparison on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table as RichTable
from rich.text import Text

from vlmadapt.cli.tables.console import console
from vlmadapt.compare.compare import Results
from vlmadapt.compare.cost import costs
from vlmadapt.compare.index import State
from vlmadapt.compare.plan import PlannedRun
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.settings import data_name
from vlmadapt.compare.tables import Table


def show(results: Results, where: str) -> None:
    """Print tables, statistics, notes, and where they are written."""
    out = console()
    for table in (*results.tables, *results.quality_tables):
        out.print(_rich(table))
    for line in statistics_lines(results.statistics):
        out.print(line, soft_wrap=True)
    out.print()
    for note in results.notes:
        out.print(note, soft_wrap=True, style="dim")
    out.print(f"written to {where}: table.csv, table.md, table.tex, table.json", soft_wrap=True)


def show_plan(planned: Sequence[PlannedRun]) -> None:
    """Print the runs of a comparison with their state and estimated training time."""
    table = RichTable()
    for heading in ("method", "data", "shots", "seed", "recipe", "state", "epochs", "training time"):
        table.add_column(heading)
    total = 0.0
    unknown = 0
    for p, cost in zip(planned, costs(planned), strict=True):
        s = p.spec.settings
        unknown += cost.seconds is None
        total += cost.seconds or 0.0
        recipe = ", ".join(p.spec.recipe) or "defaults"
        time = "" if p.state is State.DONE else "unknown" if cost.seconds is None else _duration(cost.seconds)
        epochs = "" if p.state is State.DONE else "by shots" if cost.epochs is None else str(cost.epochs)
        table.add_row(s.method, data_name(s.data), str(s.shots or "all"), str(s.seed), recipe, p.state, epochs, time)
    out = console()
    out.print(table)
    missing = sum(p.state is not State.DONE for p in planned)
    known = f"; training takes about {_duration(total)}, judging by finished runs" if total else ""
    more = f", plus {unknown} runs of unknown duration" if unknown and total else ""
    for error in dict.fromkeys(p.error for p in planned if p.error):
        out.print(error, soft_wrap=True)
    out.print(f"{missing} of {len(planned)} runs remain to be done{known}{more}.", soft_wrap=True)


def _rich(table: Table) -> RichTable:
    rich = RichTable(title=Text(table.title), title_justify="left")
    for i, heading in enumerate(table.columns):
        rich.add_column(Text(heading), justify="right" if i else "left")
    for i, row in enumerate(table.rows):
        cells = zip(row, table.best, strict=True)
        rich.add_row(*(Text(text, "bold" if i in best else "") for text, best in cells))
    return rich


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"

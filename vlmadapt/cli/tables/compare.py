"""Tables of a comparison on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from vlmadapt.cli.tables.console import console
from vlmadapt.compare.compare import Results
from vlmadapt.compare.cost import costs, total_seconds
from vlmadapt.compare.index import State
from vlmadapt.compare.plan import PlannedRun
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.settings import data_name
from vlmadapt.compare.tables import Table
from vlmadapt.text import counted, duration


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


def show_plan(planned: Sequence[PlannedRun], folder: Path, jobs: int) -> None:
    """Print the runs of a comparison with their state, time and memory, and when all will be done."""
    table = RichTable()
    for heading in ("method", "data", "shots", "seed", "recipe", "state", "epochs", "time", "memory"):
        table.add_column(heading)
    unknown: set[Path] = set()
    left: dict[Path, float] = {}
    for p, cost in zip(planned, costs(planned, folder), strict=True):
        s, open_ = p.spec.settings, p.state not in (State.DONE, State.IMPOSSIBLE)
        if open_ and cost.run is None:
            unknown.add(p.folder)
        elif open_ and cost.run is not None:
            left[p.folder] = cost.run.seconds
        recipe = ", ".join(p.spec.recipe) or "defaults"
        time = "" if not open_ else "unknown" if cost.run is None else duration(cost.run.seconds)
        memory = "" if cost.run is None else f"{cost.run.memory / 2**30:.2f} GiB"
        epochs = "" if not open_ else "by shots" if cost.epochs is None else str(cost.epochs)
        table.add_row(
            s.method, data_name(s.data), str(p.spec.shots or "all"), str(p.spec.seed), recipe, p.state, epochs, time,
            memory,
        )  # fmt: skip
    out = console()
    out.print(table)
    for error in dict.fromkeys(p.error for p in planned if p.error):
        out.print(error, soft_wrap=True)
    possible = [p for p in planned if p.state is not State.IMPOSSIBLE]
    open_runs = {p.folder for p in possible if p.state is not State.DONE}
    out.print(f"{len(open_runs)} of {len({p.folder for p in possible})} runs remain to be done{_end(left, jobs)}.")
    if lacking := len(planned) - len(possible):
        out.print(f"{counted(lacking, 'row')} cannot be run without the missing data.")
    if unknown:
        out.print(f"The time of {counted(len(unknown), 'run')} is unknown; --measure does a few steps of each kind.")


def _end(left: Mapping[Path, float], jobs: int) -> str:
    """Duration of runs of known time, and when they would be done."""
    if not left:
        return ""
    seconds = total_seconds(left.values(), jobs)
    end = datetime.now() + timedelta(seconds=seconds)
    return f"; {duration(seconds)} with {counted(jobs, 'job')} at a time, until {end:%Y-%m-%d %H:%M}"


def _rich(table: Table) -> RichTable:
    rich = RichTable(title=Text(table.title), title_justify="left")
    for i, heading in enumerate(table.columns):
        rich.add_column(Text(heading), justify="right" if i else "left")
    for i, row in enumerate(table.rows):
        cells = zip(row, table.best, strict=True)
        rich.add_row(*(Text(text, "bold" if i in best else "") for text, best in cells))
    return rich

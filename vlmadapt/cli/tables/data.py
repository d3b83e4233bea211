"""Tables of data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.data.manage import PARTS, DataReport, DatasetInfo, StepReport

MOST = 20
"""Number of missing files that are listed; the others are counted."""


def list_table(datasets: Sequence[DatasetInfo], *, as_json: bool) -> None:
    """Print a row for each data set."""
    if as_json:
        print(json.dumps([asdict(dataset) for dataset in datasets]))
        return
    table = Table()
    table.add_column("data set")
    for part in PARTS:
        table.add_column(part, justify="right")
    table.add_column("state", overflow="fold")
    table.add_column("from")
    for dataset in datasets:
        table.add_row(
            dataset.name, *(_number(dataset.expected.get(part)) for part in PARTS), dataset.state, dataset.distribution
        )
    console().print(table)


def check_table(report: DataReport, *, as_json: bool) -> None:
    """Print expected and found counts, and missing files."""
    if as_json:
        missing = [str(path) for path in report.missing]
        print(json.dumps({**asdict(report), "missing": missing, "complete": report.complete}))
        return
    table = Table(title=report.name)
    for name in ("", "expected", "found", ""):
        table.add_column(name, justify="right" if name else "left")
    for part in PARTS:
        expected, found = report.expected.get(part), report.found[part]
        table.add_row(part, _number(expected), _number(found), "" if expected in (None, found) else "differs")
    out = console()
    out.print(table)
    for path in report.missing[:MOST]:
        out.print(f"missing: {path}", soft_wrap=True)
    if len(report.missing) > MOST:
        out.print(f"and {len(report.missing) - MOST:,} more; --json lists them all")
    for note in report.notes:
        out.print(f"note: {note}", soft_wrap=True)


def prepare_table(steps: Sequence[StepReport], *, as_json: bool) -> None:
    """Print the state of each part and where it comes from."""
    if as_json:
        print(json.dumps([{**asdict(step), "paths": [str(path) for path in step.paths]} for step in steps]))
        return
    if not steps:
        console().print("nothing to download: it comes with its package")
        return
    table = Table()
    for name in ("part", "state", "where from"):
        table.add_column(name, overflow="fold")
    for step in steps:
        table.add_row("\n".join(str(path) for path in step.paths), step.state, step.how)
    console().print(table)


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"

"""Tables of the command `data`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from vlmadapt.cli.tables.runs import console
from vlmadapt.data.check import PARTS, ClassCount, DataReport
from vlmadapt.data.manage import DataCard, StepReport
from vlmadapt.text import first_few

MOST = 20
"""Lines of a kind that are printed; the others are counted."""


def list_table(cards: Sequence[DataCard], *, as_json: bool) -> None:
    """All data sets."""
    if as_json:
        print(json.dumps([asdict(card) for card in cards]))
        return
    table = Table()
    table.add_column("data set")
    for part in PARTS:
        table.add_column(part, justify="right")
    table.add_column("state", overflow="fold")
    table.add_column("from")
    for card in cards:
        table.add_row(card.name, *(_number(card.expected.get(part)) for part in PARTS), card.state, card.distribution)
    console().print(table)


def check_table(report: DataReport, *, as_json: bool) -> None:
    """Counts next to the expected ones, classes, and problems."""
    if as_json:
        print(json.dumps({**asdict(report), "complete": report.complete, **_paths(report)}))
        return
    table = Table(title=report.name)
    for name in ("", "expected", "found", ""):
        table.add_column(name, justify="right" if name else "left")
    for part in PARTS:
        expected, found = report.expected.get(part), report.found[part]
        table.add_row(part, _number(expected), _number(found), "" if expected in (None, found) else "differs")
    out = console()
    out.print(table)
    for line in (*_class_lines(report.classes), *_problem_lines(report)):
        out.print(line, soft_wrap=True, highlight=False)


def _class_lines(classes: Sequence[ClassCount]) -> Iterator[str]:
    """Smallest and largest class, classes without training images, and the folder of each class."""
    if classes:
        small, large = (choose(classes, key=lambda c: c.total) for choose in (min, max))
        yield f"smallest class: '{small.name}' with {small.total:,} images"
        yield f"largest class: '{large.name}' with {large.total:,} images"
    empty = [f"'{c.name}'" for c in classes if not c.train]
    if empty and len(empty) < len(classes):
        yield f"classes without training images: {first_few(empty)}"
    yield from _first([f"class '{c.name}': folder '{c.folder}'" for c in classes if c.folder])


def _problem_lines(report: DataReport) -> Iterator[str]:
    yield from _first([f"missing: {path}" for path in report.missing])
    yield from _first([f"broken: {reason}" for reason in report.broken.values()])
    yield from _first([f"equal files: {', '.join(map(str, group))}" for group in report.copies])
    for note in report.notes:
        yield f"note: {note}"


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST:,} more; --json lists all"


def _paths(report: DataReport) -> dict[str, Any]:
    return {
        "missing": [str(path) for path in report.missing],
        "broken": {str(path): reason for path, reason in report.broken.items()},
        "copies": [[str(path) for path in group] for group in report.copies],
    }


def prepare_table(steps: Sequence[StepReport], *, as_json: bool) -> None:
    """Source and state of each part."""
    if as_json:
        print(json.dumps([{**asdict(step), "paths": [str(path) for path in step.paths]} for step in steps]))
        return
    if not steps:
        console().print("nothing to download: the data set comes with its package")
        return
    table = Table()
    for name in ("part", "state", "where from"):
        table.add_column(name, overflow="fold")
    for step in steps:
        table.add_row("\n".join(str(path) for path in step.paths), step.state, step.how)
    console().print(table)


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"

"""Tables of data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.data.check import PARTS, DataReport, Duplicates, LabelCheck, WrongLabel
from vlmadapt.data.manage import DatasetInfo, StepReport
from vlmadapt.text import counted, first_few

MOST = 20
"""Lines of a kind that are printed; the others are counted."""
IMBALANCED = 3.0
"""Images of the largest class for one of the smallest that are worth a line."""


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
    """Counts next to the expected ones, classes, and problems."""
    if as_json:
        print(json.dumps({**asdict(report), **_plain(report)}))
        return
    table = Table(title=report.name)
    for name in ("", "expected", "found", ""):
        table.add_column(name, justify="right" if name else "left")
    for part in PARTS:
        expected, found = report.expected.get(part), report.found[part]
        table.add_row(part, _number(expected), _number(found), "" if expected in (None, found) else "differs")
    out = console()
    out.print(table)
    for line in (*_class_lines(report), *_problem_lines(report)):
        out.print(line, soft_wrap=True, highlight=False)
    if report.labels is not None and report.labels.doubted:
        out.print(_wrong_labels_table(report.labels.doubted))


def _class_lines(report: DataReport) -> Iterator[str]:
    """Smallest and largest class, classes without training images, and the folder of each class."""
    classes = report.classes
    if classes:
        small, large = (choose(classes, key=lambda c: c.total) for choose in (min, max))
        yield f"smallest class: '{small.name}' with {counted(small.total, 'image')}"
        yield f"largest class: '{large.name}' with {counted(large.total, 'image')}"
    if report.imbalance >= IMBALANCED:
        yield f"imbalance: {report.imbalance:.3g} images of the largest class for one of the smallest"
    empty = [f"'{c.name}'" for c in classes if not c.train]
    if empty and len(empty) < len(classes):
        yield f"classes without training images: {first_few(empty)}"
    yield from _first([f"class '{c.name}': folder '{c.folder}'" for c in classes if c.folder])


def _problem_lines(report: DataReport) -> Iterator[str]:
    yield from _first([f"missing: {path}" for path in report.missing])
    yield from _first([f"broken: {reason}" for reason in report.broken.values()])
    for exact in (True, False):
        groups = [group for group in report.duplicates if group.exact is exact]
        yield from _first([f"{group.what}{_where(group)}: {', '.join(map(str, group.paths))}" for group in groups])
    for what, sizes in (("tiny", report.tiny), ("huge", report.huge)):
        yield from _first([f"{what}: {path} ({width} x {height} pixels)" for path, (width, height) in sizes.items()])
    for note in report.notes:
        yield f"note: {note}"
    if report.labels is not None:
        yield labels_line(report.labels)


def labels_line(labels: LabelCheck) -> str:
    """How many labels are doubted, and how far that can be trusted."""
    return (
        f"{counted(len(labels.doubted), 'label')} of {labels.images:,} likely wrong; from the features of "
        f"{labels.backbone}, the class of {labels.accuracy:.0%} of the images can be told, and where it cannot, many "
        "doubts are false alarms"
    )


def _where(group: Duplicates) -> str:
    """Why duplicates matter: ` in two classes (cat, dog)`, ` in train and test`."""
    if len(group.classes) > 1:
        return f" in {len(group.classes)} classes ({first_few(group.classes, 3)})"
    return f" in {' and '.join(group.parts)}" if group.conflict else ""


def _wrong_labels_table(found: Sequence[WrongLabel]) -> Table:
    table = Table(title="labels that are likely wrong", caption=_more(len(found)))
    for name in ("image", "label", "probability", "seems to be", "probability"):
        table.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    for image in found[:MOST]:
        pairs = ((image.label, image.probability), (image.seems, image.other))
        table.add_row(str(image.path), *(text for name, p in pairs for text in (name, f"{100 * p:.1f} %")))
    return table


def _more(count: int) -> str | None:
    return f"and {count - MOST:,} more; --json lists all" if count > MOST else None


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MOST]
    if more := _more(len(lines)):
        yield more


def _plain(report: DataReport) -> dict[str, Any]:
    """What `asdict` cannot give as JSON: properties, and paths."""
    return {
        "complete": report.complete,
        "imbalance": report.imbalance,
        "missing": [str(path) for path in report.missing],
        **{
            name: {str(path): value for path, value in getattr(report, name).items()}
            for name in ("broken", "tiny", "huge")
        },
        "copies": [[str(path) for path in group] for group in report.copies],
        "duplicates": [
            {**asdict(group), "paths": [str(path) for path in group.paths], "conflict": group.conflict}
            for group in report.duplicates
        ],
        "labels": None if report.labels is None else _plain_labels(report.labels),
    }


def _plain_labels(labels: LabelCheck) -> dict[str, Any]:
    return {**asdict(labels), "doubted": [{**asdict(image), "path": str(image.path)} for image in labels.doubted]}


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

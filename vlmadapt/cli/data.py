"""`vlmadapt data list | check | prepare`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from vlmadapt.cli.parsing import add_data_root, add_reading, new_parser, parse
from vlmadapt.errors import DataError, VlmadaptError, unknown
from vlmadapt.text import counted

if TYPE_CHECKING:
    from vlmadapt.data.check import DataReport

ACTIONS = ("list", "check", "prepare")
DESCRIPTION = """Manage data sets. `list` shows the registered ones. `check NAME` counts classes and images, compares
them with the published numbers and names missing files; in your own data it finds broken, tiny and huge images,
duplicates and, with --backbone, labels that are likely wrong. `prepare NAME` downloads missing parts, and says how to
obtain those that cannot be downloaded."""


def run(arguments: list[str]) -> None:
    """Parse, run the action, print a table."""
    action = arguments[0] if arguments else "--help"
    if action in ("-h", "--help"):
        _parser("ACTION").print_help()
        return
    if action not in ACTIONS:
        raise VlmadaptError(unknown("action of `vlmadapt data`", action, ACTIONS))
    {"list": _list, "check": _check, "prepare": _prepare}[action](arguments[1:])


def _list(arguments: list[str]) -> None:
    given = parse(_parser("list"), arguments)
    from vlmadapt.cli.tables.data import list_table
    from vlmadapt.data.manage import list_data

    list_table(list_data(_root(given.data_root)), as_json=given.json)


def _check(arguments: list[str]) -> None:
    parser = _parser("check")
    parser.add_argument("name", type=str, help="data set, named as for fit --data")
    add_reading(parser)
    parser.add_argument(
        "--backbone",
        type=str | None,
        default=None,
        help="look for wrong labels with this frozen backbone, for photographs ViT-B-16:openai",
    )
    parser.add_argument("--html", type=Path | None, default=None, metavar="FILE", help="write a page with thumbnails")
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.data import check_table

    report = _checked(given)
    check_table(report, as_json=given.json)
    if given.html is not None:
        from vlmadapt.report.data_page import write_data_page

        write_data_page(report, given.html)
        print(f"page: {given.html}", file=sys.stderr)
    if not report.complete:
        raise DataError(f"data set '{given.name}' is not complete: {_problem(report)}.")


def _checked(given: Namespace) -> DataReport:
    """The report on a data set, with progress bars; labels are checked if a backbone is given."""
    from vlmadapt.data.check import check_dataset
    from vlmadapt.data.load import load_data
    from vlmadapt.data.scan import scan_progress
    from vlmadapt.runs.progress import Reporter

    reporter = Reporter()
    with reporter.bar("listing images", None), scan_progress(reporter.advance):
        data = load_data(given.name, root=_root(given.data_root), recursive=given.recursive, columns=given.columns)
    with reporter.bar("checking images", len(data.examples)):
        report = check_dataset(given.name, data, lambda done, total: reporter.advance())
    if given.backbone is None:
        return report
    from vlmadapt.evaluation.wrong_labels import wrong_labels

    unread = {*report.missing, *report.broken}
    readable = [example for example in data.examples if example.path not in unread]
    with reporter.bar("checking labels", len(readable)):
        found = wrong_labels(readable, data.classes, given.backbone, lambda done, total: reporter.update(done, ""))
    return replace(report, labels=found)


def _prepare(arguments: list[str]) -> None:
    parser = _parser("prepare")
    parser.add_argument("name", type=str, help="a registered data set; see `vlmadapt data list`")
    parser.add_argument("--dry_run", action="store_true", help="list the steps without running them")
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.data import prepare_table
    from vlmadapt.data.manage import DOWNLOADED, PRESENT, prepare_data
    from vlmadapt.runs.progress import Reporter

    reporter = Reporter()
    steps = prepare_data(given.name, _root(given.data_root), dry_run=given.dry_run, say=reporter.say)
    prepare_table(steps, as_json=given.json)
    left = [step for step in steps if step.state not in (PRESENT, DOWNLOADED)]
    if left and not given.dry_run:
        raise DataError(f"data set '{given.name}' is not complete: {len(left)} of its {len(steps)} parts are missing.")


def _problem(report: DataReport) -> str:
    if report.missing:
        return f"{counted(len(report.missing), 'file')} missing"
    if report.broken:
        return f"{counted(len(report.broken), 'image')} cannot be read"
    return "its counts differ from the published ones"


def _parser(action: str) -> ArgumentParser:
    parser = new_parser(f"data {action}" if action in ACTIONS else "data {list,check,prepare}", DESCRIPTION)
    add_data_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _root(given: str | None) -> Path | None:
    return Path(given) if given else None

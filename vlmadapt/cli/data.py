"""`vlmadapt data list | check | prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from vlmadapt.cli.parsing import add_data_root, new_parser, parse
from vlmadapt.errors import DataError, VlmadaptError, unknown
from vlmadapt.text import counted

if TYPE_CHECKING:
    from vlmadapt.data.check import DataReport

ACTIONS = ("list", "check", "prepare")
DESCRIPTION = """Manage data sets. `list` shows the registered ones. `check NAME` counts classes and images, compares
them with the published numbers and names missing files; of your own data it checks every image. `prepare NAME`
downloads missing parts, and says how to obtain those that cannot be downloaded."""


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
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.data import check_table
    from vlmadapt.data.check import check_data

    report = check_data(given.name, _root(given.data_root))
    check_table(report, as_json=given.json)
    if not report.complete:
        raise DataError(f"data set '{given.name}' is not complete: {_problem(report)}.")


def _prepare(arguments: list[str]) -> None:
    parser = _parser("prepare")
    parser.add_argument("name", type=str, help="a registered data set; see `vlmadapt data list`")
    parser.add_argument("--dry_run", action="store_true", help="list the steps without running them")
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.data import prepare_table
    from vlmadapt.data.manage import DOWNLOADED, PRESENT, prepare_data

    steps = prepare_data(
        given.name, _root(given.data_root), dry_run=given.dry_run, say=lambda text: print(text, flush=True)
    )
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

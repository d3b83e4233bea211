"""`vlmadapt evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from vlmadapt.cli.method_options import add_method_options
from vlmadapt.cli.parsing import (
    add_backbone,
    add_config,
    add_data_root,
    add_descriptions,
    add_precision,
    add_reading,
    new_parser,
    parse,
    take_config,
)
from vlmadapt.cli.prechecks import check_data_exists, check_resumable

DESCRIPTION = """Test a finished run again, on its own classes or on other data. `RUN --help` shows the options of its
method, which may differ from training (--method.OPTION, or --config FILE)."""


def run(arguments: list[str]) -> None:
    """Parse, test, print a table."""
    content, others = take_config(arguments)
    folder = others[0] if others and not others[0].startswith("-") else None
    given = parse(_parser(folder), others, content)
    if given.data is not None:
        check_data_exists(given.data, _path(given.data_root))
    from vlmadapt.cli.tables.runs import accuracy_table
    from vlmadapt.evaluation.evaluate import evaluate
    from vlmadapt.runs.distributed import is_main_process

    accuracies, numbers = evaluate(
        Path(given.run),
        data=given.data,
        classes=_path(given.classes),
        recursive=given.recursive,
        columns=given.columns,
        backbone=given.backbone,
        data_root=_path(given.data_root),
        role=given.role,
        protocol=given.protocol,
        precision=given.precision,
        descriptions=_path(given.descriptions),
        options=given.method.as_dict() if "method" in given else None,
    )
    if is_main_process():
        accuracy_table(accuracies, numbers, as_json=given.json, by_class=given.by == "class")


def _parser(folder: str | None) -> ArgumentParser:
    """All options, with those of the run's method if its folder is known."""
    parser = new_parser("evaluate", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    add_config(parser)
    parser.add_argument("--data", type=str | None, default=None, help="other data, named as for fit")
    parser.add_argument("--classes", type=str | None, default=None, help="file with readable class names for a folder")
    add_descriptions(parser)
    add_reading(parser)
    add_data_root(parser)
    parser.add_argument(
        "--role",
        type=Literal["seen", "unseen", "unknown"] | None,
        default=None,
        help="role of the other data's classes for the inference router; by default known from their names",
    )
    parser.add_argument(
        "--protocol",
        type=str | None,
        default=None,
        help="test as this protocol does; it has to train on the same classes: all-classes after base-to-novel",
    )
    add_backbone(parser)
    add_precision(parser)
    parser.add_argument(
        "--by",
        type=Literal["class"] | None,
        default=None,
        help="class: also print precision, recall and F1 of each class, and what it is taken for",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table, with each class")
    if folder is not None:
        settings = check_resumable(Path(folder))
        add_method_options(parser, settings.method)
        parser.set_defaults({f"method.{name}": value for name, value in settings.options.items()})
    return parser


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None

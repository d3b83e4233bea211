"""`vlmadapt evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from vlmadapt.cli.parsing import new_parser, parse

DESCRIPTION = """Test a finished run again, on its own classes or on other data. `RUN --help` shows the options of its
method, which may be changed against training (--method.OPTION, or --config FILE)."""


def run(arguments: list[str]) -> None:
    """Parse, test, print a table."""
    parser = new_parser("evaluate", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_argument("--data", type=str | None, default=None, help="other data, named as for fit")
    parser.add_argument("--classes", type=str | None, default=None, help="file with readable class names for a folder")
    parser.add_argument(
        "--data_root",
        type=str | None,
        default=None,
        help="folder that registered data sets lie in; by default $VLMADAPT_DATA",
    )
    parser.add_argument(
        "--role",
        type=Literal["seen", "unseen", "unknown"] | None,
        default=None,
        help="what the method is told of the other data's classes; by default what their names say",
    )
    parser.add_argument(
        "--protocol",
        type=str | None,
        default=None,
        help="test as this protocol does, which has to train on the same classes: all-classes after base-to-novel",
    )
    parser.add_argument("--backbone", type=str | None, default=None, help="where the run's backbone is found now")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if arguments and not arguments[0].startswith("-"):
        _add_method(parser, Path(arguments[0]))
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.runs import accuracy_table
    from vlmadapt.evaluation.evaluate import evaluate
    from vlmadapt.runs.distributed import is_main_process

    accuracies, numbers = evaluate(
        Path(given.run),
        data=given.data,
        classes=given.classes and Path(given.classes),
        backbone=given.backbone,
        data_root=given.data_root and Path(given.data_root),
        role=given.role,
        protocol=given.protocol,
        options=given.method.as_dict() if "method" in given else None,
    )
    if is_main_process():
        accuracy_table(accuracies, numbers, as_json=given.json)


def _add_method(parser: ArgumentParser, folder: Path) -> None:
    """The options of the run's method, with the values it was trained with."""
    from vlmadapt.core.build import method_class
    from vlmadapt.runs.run import Run

    run = Run.open(folder)
    run.check_method()
    settings = run.settings()
    parser.add_class_arguments(method_class(settings.method).Config, "method", help=f"options of {settings.method}")
    parser.set_defaults({f"method.{name}": value for name, value in settings.options.items()})

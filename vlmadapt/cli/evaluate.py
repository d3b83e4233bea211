"""`vlmadapt evaluate`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse


def run(arguments: list[str]) -> None:
    """Parse, test, print a table."""
    parser = new_parser("evaluate", "Test a finished run again.")
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--data", type=str | None, default=None, help="other data: registered name or folder")
    parser.add_argument("--classes", type=str | None, default=None, help="file with readable class names for a folder")
    parser.add_argument("--backbone", type=str | None, default=None, help="where the run's backbone is found now")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parse(parser, arguments)
    from vlmadapt.workflows.retest import evaluate
    from vlmadapt.workflows.table import accuracy_table

    accuracies, numbers = evaluate(
        Path(given.run), data=given.data, classes=given.classes and Path(given.classes), backbone=given.backbone
    )
    accuracy_table(accuracies, numbers, as_json=given.json)

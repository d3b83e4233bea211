"""`vlmadapt report`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse


def run(arguments: list[str]) -> None:
    """Parse, write the page."""
    parser = new_parser("report", "Write a self-contained HTML page of runs or of a comparison.")
    parser.add_argument("folders", type=str, nargs="+", help="folder of a comparison, or run folders")
    parser.add_argument("--out", type=str, default="report.html", help="HTML file to write")
    given = parse(parser, arguments)
    from vlmadapt.report.report import report

    print(f"written to {report([Path(folder) for folder in given.folders], Path(given.out))}")

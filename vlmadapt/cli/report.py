"""`vlmadapt report`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.runs.run import Run


def run(arguments: list[str]) -> None:
    """Parse, write the page."""
    parser = new_parser("report", "Write a comparison, or runs, as one self-contained HTML page.")
    parser.add_argument("folders", type=str, nargs="+", help="the folder of a comparison, or run folders")
    parser.add_argument("--out", type=str, default="report.html", help="file to be written")
    given = parse(parser, arguments)
    for folder in map(Path, given.folders):
        if not folder.exists():
            Run.open(folder)  # raises before torch is imported
    from vlmadapt.report.report import report

    print(f"written to {report([Path(folder) for folder in given.folders], Path(given.out))}")

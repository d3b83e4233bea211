"""`vlmadapt predict`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from vlmadapt.cli.parsing import add_precision, new_parser, parse
from vlmadapt.errors import DataError
from vlmadapt.files import exists
from vlmadapt.runs.run import Run


def run(arguments: list[str]) -> None:
    """Parse, classify, print."""
    parser = new_parser("predict", "Classify images with a finished run.")
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("images", type=str, nargs="+", help="image files, or folders of images")
    parser.add_argument("--top", type=int, default=5, help="number of classes for each image")
    parser.add_argument(
        "--classes", type=str | None, default=None, help="class names separated by commas, or a file of them"
    )
    parser.add_argument("--backbone", type=str | None, default=None, help="new location of the run's backbone")
    add_precision(parser)
    parser.add_argument(
        "--stream",
        type=str | None,
        default=None,
        help="file with the state of a stream (tda): it is continued if the file exists, and saved there afterwards",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line for each image")
    given = parse(parser, arguments)
    if given.top < 1:
        raise DataError(f"--top is {given.top}; name at least one class.")
    if not Path(given.run).is_dir():
        Run.open(Path(given.run))  # raises before torch is imported
    files = _files(given.images)
    from vlmadapt.cli.tables.runs import prediction_table
    from vlmadapt.evaluation.predict import load

    stream = Path(given.stream) if given.stream else None
    predictor = load(Path(given.run), _classes(given.classes), given.backbone, given.precision, stream)
    if stream is not None and not exists(stream):
        print(f"'{stream}' does not exist; a new stream starts.", file=sys.stderr)
    prediction_table(files, predictor.predict(files, given.top), as_json=given.json)
    if stream is not None:
        predictor.save_stream(stream)


def _files(given: list[str]) -> list[Path]:
    from vlmadapt.data.image_formats import unread_endings
    from vlmadapt.data.scan import scan

    files: list[Path] = []
    unread: Counter[str] = Counter()
    for path in map(Path, given):
        if path.is_dir():
            found = scan(path)
            files += (path / name for name in found.images)
            unread += found.unread
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"image '{path}' does not exist.")
    left = f"not read: {unread_endings(unread)}" if unread else ""
    if not files:
        raise DataError(f"no images in {', '.join(given)}{'; ' if left else ''}{left}.")
    if left:
        print(f"{left}.", file=sys.stderr)
    return files


def _classes(given: str | None) -> list[str] | None:
    if given is None:
        return None
    if exists(Path(given)):
        from vlmadapt.data.classes import read_name_list

        found = list(read_name_list(Path(given)))
    else:
        found = [name.strip() for name in given.split(",") if name.strip()]
    if len(found) < 2:
        raise DataError(
            f"--classes '{given}' leaves nothing to choose from; give two names or more with commas between, or a file "
            "with a name per line."
        )
    return found

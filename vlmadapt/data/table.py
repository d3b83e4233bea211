"""A table of images, CSV or JSON lines, as a data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmadapt.data.classes import check_class_names
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.folder import SPLITS, Files, make_split
from vlmadapt.data.templates import DEFAULT_TEMPLATES
from vlmadapt.errors import DataError

SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True)
class Row:
    """One image of the table; `split` is empty where the table has no such column."""

    line: int
    path: Path
    label: str
    split: str


def read_table(file: Path) -> Dataset:
    """The data set that a table lists.

    Each row has an image's `path`, seen from the table's folder, its `label`, which is the class's name, and its
    `split`: train, val or test. Without a column `split` each class is cut as `read_folder` does. Classes are sorted
    by name, or by value where all labels are whole numbers; other columns are ignored.

    Args:
        file: `.csv` with a header, or `.jsonl` with an object per line.

    Raises:
        DataError: the file is missing or cannot be read, a column, a value or an image is missing, or there is only
            one class; the message has the line.
    """
    rows = list(_rows(file))
    if not rows:
        raise DataError(f"'{file}' lists no image.")
    names = _classes(file, {row.label for row in rows})
    _check_images(file, rows)
    files = _by_split(file, rows)
    label = {name: i for i, name in enumerate(names)}

    def examples(split: Files) -> tuple[Example, ...]:
        return tuple(Example(path, label[name]) for name, paths in split.items() for path in paths)

    train, val, test = (examples(split) for split in files)
    return Dataset(file.resolve().stem, names, DEFAULT_TEMPLATES, train, val, test)


def _rows(file: Path) -> Iterator[Row]:
    for line, record in _records(file):
        values = {name: _value(file, line, record, name) for name in ("path", "label")}
        split = ""
        if record.get("split") is not None:
            given = str(record["split"]).strip().lower()
            if given not in SPLITS:
                raise DataError(f"line {line} of '{file}' has the split '{given}'; write train, val or test.")
            split = SPLITS[given]
        yield Row(line, file.parent / values["path"], values["label"], split)


def _records(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and record, one after the other."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() == ".csv":
                table = csv.DictReader(lines)
                for row in table:
                    yield table.line_num, row
                return
            for number, text in enumerate(lines, start=1):
                if text.strip():
                    yield number, _object(file, number, text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{file}' cannot be read ({error}); give a UTF-8 file, .csv or .jsonl.") from error


def _object(file: Path, number: int, text: str) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"line {number} of '{file}' is not valid JSON: {error.msg}.") from error
    if not isinstance(record, dict):
        raise DataError(f"line {number} of '{file}' is no JSON object; write path, label and split in each.")
    return record


def _value(file: Path, line: int, record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None or not str(value).strip():
        there = ", ".join(str(key) for key in record) or "none"
        raise DataError(f"line {line} of '{file}' has no {name}; needed are path and label, there are: {there}.")
    return str(value).strip()


def _classes(file: Path, labels: set[str]) -> tuple[str, ...]:
    numbers = all(label.isdigit() for label in labels)
    names = tuple(sorted(labels, key=int) if numbers else sorted(labels))
    if len(names) == 1:
        raise DataError(f"'{file}' has only one class, '{names[0]}'; at least two are needed.")
    check_class_names(names, file)
    return names


def _check_images(file: Path, rows: list[Row]) -> None:
    missing = [row for row in rows if not row.path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} images in '{file}' do not exist, the first in line {missing[0].line}: "
            f"'{missing[0].path}'; paths are seen from the table's folder."
        )


def _by_split(file: Path, rows: list[Row]) -> tuple[Files, Files, Files]:
    without = [row for row in rows if not row.split]
    if without and len(without) < len(rows):
        raise DataError(f"line {without[0].line} of '{file}' has no split, others have; give it to all or to none.")
    found: dict[str, Files] = {"train": {}, "val": {}, "test": {}, "": {}}
    for row in rows:
        found[row.split].setdefault(row.label, []).append(row.path)
    if without:
        return make_split({label: sorted(paths) for label, paths in sorted(found[""].items())})
    return found["train"], found["val"], found["test"]

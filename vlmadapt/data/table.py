"""A table of images, CSV or JSON lines, as a data set."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmadapt.data.classes import alike_note, check_class_names, in_class_order
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.folder import SPLITS
from vlmadapt.data.hash_split import Files, hash_split
from vlmadapt.data.templates import DEFAULT_TEMPLATES
from vlmadapt.errors import DataError
from vlmadapt.files import exists, parse_json, read_text
from vlmadapt.text import counted

SUFFIXES = (".csv", ".tsv", ".jsonl")
COLUMNS = ("path", "label", "split")
"""Columns that are read, under their usual names."""
LIMIT = 512 * 2**20
"""Bytes of the largest table; a row for each image of ImageNet takes a fifth of it."""


@dataclass(frozen=True)
class Row:
    """One image of the table.

    Attributes:
        line: line number in the table.
        path: image file.
        label: class name.
        split: 'train', 'val' or 'test'; empty where the table has no such column.
    """

    line: int
    path: Path
    label: str
    split: str


def column_names(given: str | None) -> dict[str, str]:
    """Name of each of `COLUMNS` in a table, in lower case; `given` is like `path=image, label=species`.

    Raises:
        DataError: `given` has another form.
    """
    names = {name: name for name in COLUMNS}
    for pair in (given or "").split(",") if given else ():
        name, equals, column = (text.strip().lower() for text in pair.partition("="))
        if not equals or name not in names or not column:
            raise DataError(
                f"columns '{given}' are not understood; write for example path=image,label=species,split=fold."
            )
        names[name] = column
    return names


def read_table(file: Path, columns: str | None = None) -> Dataset:
    """The data set that a table lists.

    Each row has an image's `path`, relative to the table's folder or absolute, its `label`, which is the class name,
    and its `split`: train, val, test or one of their other names. Without a column `split` each class is split by
    `hash_split`. Column names may have any case and blanks around them; other columns are ignored. Equal rows count
    once.

    Args:
        file: `.csv` or `.tsv` with a header and commas, semicolons or tabs, or `.jsonl` with an object per line.
        columns: other names of the columns, like `path=image,label=species`.

    Returns:
        The data set; labels count the classes by name, or by value where all names are whole numbers.

    Raises:
        DataError: the file cannot be read; a column, a value or an image is missing; a path has two labels or two
            splits; or there is only one class. The message has the line.
    """
    listed = list(_rows(file, column_names(columns)))
    if not listed:
        raise DataError(f"'{file}' lists no image.")
    rows = _distinct(file, listed)
    names = _classes(file, {row.label for row in rows})
    _check_images(file, rows)
    files = _by_split(file, rows)
    label = {name: i for i, name in enumerate(names)}

    def examples(split: Files) -> tuple[Example, ...]:
        return tuple(Example(path, label[name]) for name, paths in split.items() for path in paths)

    train, val, test = (examples(split) for split in files)
    notes = [*_repeated(file, len(listed) - len(rows)), *_val_is_test(file, rows), *alike_note(names)]
    cut = not rows[0].split
    return Dataset(file.resolve().stem, names, DEFAULT_TEMPLATES, train, val, test, tuple(notes), cut=cut)


def _rows(file: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    for line, record in _records(file, columns):
        path, label = (_value(file, line, record, columns[name]) for name in ("path", "label"))
        yield Row(line, _path(file, path), label, _split(file, line, record.get(columns["split"])))


def _split(file: Path, line: int, value: object) -> str:
    if value is None:
        return ""
    given = str(value).strip().lower()
    if given not in SPLITS:
        raise DataError(f"line {line} of '{file}' has the split {given[:50]!a}; write train, val or test.")
    return SPLITS[given]


def _path(file: Path, written: str) -> Path:
    """The absolute path; back-slashes separate folders where no file has them in its name."""
    path = file.parent / written
    if "\\" in written and not exists(path):
        path = file.parent / written.replace("\\", "/")
    return Path(os.path.normpath(path.absolute()))


def _records(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and record, one after the other; keys in lower case without blanks."""
    text = read_text(file, LIMIT)
    if file.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _lower(_object(file, number, line))
        return
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        _check_header(file, table.fieldnames or (), columns)
        for row in table:
            if any(row.pop(None, ())):
                raise DataError(
                    f"line {table.line_num} of '{file}' has more values than columns; quote values with \"\"."
                )
            yield table.line_num, _lower(row)
    except csv.Error as error:
        raise DataError(f"'{file}' cannot be read as a table: {error}.") from error


def _delimiter(text: str) -> str:
    """The separator that the header has most of."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _check_header(file: Path, header: Sequence[str], columns: Mapping[str, str]) -> None:
    names = [column.strip().lower() for column in header]
    for name, column in columns.items():
        if names.count(column) > 1:
            raise DataError(f"'{file}' has two columns '{column}'; keep one of them.")
        if column != name and column not in names:
            raise DataError(f"'{file}' has no column '{column}' for the {name}; its columns are: {', '.join(names)}.")


def _lower(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key.strip().lower(): value for key, value in record.items()}


def _object(file: Path, number: int, text: str) -> Mapping[str, Any]:
    record = parse_json(text, f"line {number} of '{file}'")
    if not isinstance(record, dict):
        raise DataError(f"line {number} of '{file}' is no JSON object; write path, label and split in each.")
    return record


def _value(file: Path, line: int, record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None or value != value or not str(value).strip():  # noqa: PLR0124 (NaN, which JSON lines may have)
        columns = " ".join(", ".join(record).split()) or "none"
        raise DataError(
            f"line {line} of '{file}' has no {name}; needed are path and label, the columns are: {columns}. For other "
            "names: --columns path=NAME,label=NAME,split=NAME."
        )
    if isinstance(value, dict | list):
        raise DataError(f"line {line} of '{file}' has a {name} that is no text.")
    text = str(value).strip()
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise DataError(
            f"line {line} of '{file}' has a {name} with line breaks or control characters, {text[:50]!a}; is a "
            "quote not closed?"
        )
    return text


def _distinct(file: Path, rows: Iterable[Row]) -> list[Row]:
    """Rows without repetitions.

    Raises:
        DataError: a path has two labels or two splits.
    """
    known: dict[Path, Row] = {}
    for row in rows:
        first = known.setdefault(row.path, row)
        for what, a, b in (("label", first.label, row.label), ("split", first.split, row.split)):
            if a != b:
                raise DataError(
                    f"lines {first.line} and {row.line} of '{file}' give '{row.path}' the {what}s '{a}' and '{b}'; "
                    "keep one of them."
                )
    return list(known.values())


def _repeated(file: Path, count: int) -> Iterator[str]:
    if count:
        yield f"'{file.name}' repeats images in {counted(count, 'row')}; each image is used once."


def _val_is_test(file: Path, rows: Iterable[Row]) -> Iterator[str]:
    splits = {row.split for row in rows}
    if "val" in splits and "test" not in splits:
        yield f"'{file.name}' has no images of the split test: those of val are tested."


def _classes(file: Path, labels: set[str]) -> tuple[str, ...]:
    names = tuple(in_class_order(labels))
    if len(names) == 1:
        raise DataError(f"'{file}' has only one class, '{names[0]}'; at least two are needed.")
    check_class_names(names, file)
    return names


def _check_images(file: Path, rows: list[Row]) -> None:
    missing = [row for row in rows if not exists(row.path)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} images in '{file}' do not exist, the first in line {missing[0].line}: "
            f"'{missing[0].path}'; paths are relative to the table's folder."
        )


def _by_split(file: Path, rows: list[Row]) -> tuple[Files, Files, Files]:
    without = [row for row in rows if not row.split]
    if without and len(without) < len(rows):
        raise DataError(f"line {without[0].line} of '{file}' has no split, others have; give it to all or to none.")
    found: dict[str, Files] = {"train": {}, "val": {}, "test": {}, "": {}}
    for row in rows:
        found[row.split].setdefault(row.label, []).append(row.path)
    if without:
        return hash_split({label: sorted(paths) for label, paths in sorted(found[""].items())}, _name_below(file))
    if not found["test"] and found["val"]:
        found["test"], found["val"] = found["val"], {}
    return found["train"], found["val"], found["test"]


def _name_below(file: Path) -> Callable[[Path], str]:
    """A file's path relative to the table's folder, or its absolute path where it lies elsewhere."""
    folder = Path(os.path.normpath(file.parent.absolute()))
    return lambda path: (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()

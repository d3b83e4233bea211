"""Readable class names from a text file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlmadapt.errors import DataError, unknown

Line = tuple[int, str]
"""A line number, from 1, and what the line says."""


def read_class_names(file: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """Names for `folders`, in their order.

    The file has a name per line in the order of `folders`, or a line `folder: name` for each, in any order. It is read
    as the latter where every line has a colon.

    Raises:
        DataError: the file is missing or no UTF-8 text, does not fit the folders, or has an empty name.
    """
    lines = _lines(file)
    names = _by_folder(file, lines, folders) if all(":" in text for _, text in lines) else _in_order(file, lines)
    if len(names) != len(folders):
        raise DataError(
            f"'{file}' names {len(names)} classes but there are {len(folders)}: write one line for each of "
            f"{_few(folders)}."
        )
    return names


def check_class_names(names: Sequence[str], where: Path) -> None:
    """Refuse names that a prompt cannot be written with.

    Raises:
        DataError: a name is empty once underscores are read as spaces.
    """
    for name in names:
        if not name.replace("_", " ").strip():
            raise DataError(f"'{where}' has a class with the empty name '{name}'; give it a name that can be read.")


def _lines(file: Path) -> list[Line]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class names cannot be read from '{file}' ({error}); give a UTF-8 text file.") from error
    lines = list(enumerate((line.strip() for line in text.rstrip().splitlines()), start=1))
    for number, line in lines:
        if not line:
            raise DataError(f"line {number} of '{file}' is empty; every line names a class.")
    return lines


def _in_order(file: Path, lines: Sequence[Line]) -> tuple[str, ...]:
    names = tuple(text for _, text in lines)
    check_class_names(names, file)
    return names


def _by_folder(file: Path, lines: Sequence[Line], folders: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for number, text in lines:
        folder, name = (part.strip() for part in text.split(":", 1))
        if folder not in folders:
            raise DataError(f"line {number} of '{file}': {unknown('class folder', folder, folders)}")
        if folder in found:
            raise DataError(f"line {number} of '{file}' names class folder '{folder}' again; keep one line for it.")
        found[folder] = name
    check_class_names(tuple(found.values()), file)
    return tuple(found[folder] for folder in folders if folder in found)


def _few(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown

"""Class names: their order, names that cannot be told apart, and files of readable names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from vlmadapt.errors import DataError, unknown
from vlmadapt.files import read_text
from vlmadapt.text import first_few

LONGEST = 500
"""Characters of a class name; a CLIP prompt has 77 tokens."""

Line = tuple[int, str]
"""A line number, from 1, and the line's text."""


def in_class_order(names: Iterable[str]) -> list[str]:
    """Names sorted by value where all are whole numbers, else as text."""
    found = list(names)
    if all(re.fullmatch(r"-?[0-9]+", name) for name in found):
        return sorted(found, key=lambda name: (Decimal(name), name))
    return sorted(found)


def read_class_names(file: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """Names for `folders`, in their order.

    The file has a name per line in the order of `folders`, or a line `folder: name` for each, in any order. It is read
    as the latter where every line has a colon.

    Raises:
        DataError: the file is missing or no UTF-8 text, does not fit the folders, has an empty name or one twice, or
            lists the name of a folder in the place of another.
    """
    lines = _lines(file)
    gap = next((number for number, text in lines if not text), None)
    if gap is not None:
        raise DataError(f"line {gap} of '{file}' is empty; every line names a class.")
    names = _by_folder(file, lines, folders) if _pairs(lines) else tuple(text for _, text in lines)
    if len(names) != len(folders):
        raise DataError(
            f"'{file}' names {len(names)} classes but there are {len(folders)}: write one line for each of "
            f"{first_few(folders)}."
        )
    check_class_names(names, file)
    if not _pairs(lines):
        _check_order(file, names, folders)
    return names


def _check_order(file: Path, names: Sequence[str], folders: Sequence[str]) -> None:
    """Refuse a list in the order of folders that gives a folder the name of another: it has some other order.

    Raises:
        DataError: the message shows such a folder.
    """
    place = {folded(folder): i for i, folder in enumerate(folders)}
    for i, name in enumerate(names):
        other = place.get(folded(name), i)
        if other != i and folded(folders[i]) != folded(name):
            raise DataError(
                f"line {i + 1} of '{file}' names '{folders[i]}' '{name}', which is the name of another, "
                f"'{folders[other]}'; give names in the order {first_few(folders)}, or write '{folders[i]}: NAME'."
            )


def read_name_list(file: Path) -> tuple[str, ...]:
    """Names in a file that `read_class_names` reads, in the file's order; empty lines are skipped.

    Raises:
        DataError: the file is missing or no UTF-8 text, or has an empty name or one twice.
    """
    lines = [line for line in _lines(file) if line[1]]
    names = tuple(name for _, name in _pairs(lines)) or tuple(text for _, text in lines)
    check_class_names(names, file)
    return names


def check_class_names(names: Sequence[str], where: Path | str) -> None:
    """Refuse names that a prompt cannot be written with, and equal names.

    Raises:
        DataError: a name is empty once underscores are read as spaces, too long, has control characters, or comes
            twice.
    """
    known: set[str] = set()
    for name in names:
        if not name.replace("_", " ").strip():
            raise DataError(f"'{where}' has a class with the empty name '{name}'; give it a name that can be read.")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):  # control, half of a pair
            raise DataError(f"'{where}' has a class name with control characters, {name[:50]!a}; correct it.")
        if len(name) > LONGEST:
            raise DataError(f"'{where}' has a class name of {len(name):,} characters, '{name[:20]}...'; shorten it.")
        if name in known:
            raise DataError(f"'{where}' has two classes with the name '{name}'; give each class a name of its own.")
        known.add(name)


def alike(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case, underscores, hyphens, spaces, accents' spelling or a number's zeros."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(folded(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def alike_note(names: Sequence[str]) -> Iterator[str]:
    """A note where names read alike: their prompts are the same or nearly so."""
    groups = [" and ".join(f"'{name}'" for name in group) for group in alike(names)]
    if groups:
        yield f"class names that read alike: {first_few(groups)}; a prompt can hardly tell them apart."


def naming_note(file: Path, folders: Sequence[str], names: Sequence[str]) -> str:
    """A note that shows which folder or label became which class."""
    pairs = [f"'{folder}' is '{name}'" for folder, name in zip(folders, names, strict=True)]
    return f"class names come from '{file.name}': {first_few(pairs)}."


def folded(name: str) -> str:
    """What names that read alike have in common: see `alike`."""
    words = " ".join(re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).split()).casefold()
    number = re.fullmatch(r"0*([0-9]+)(\.0*)?", words)
    return number[1] if number else words


def _lines(file: Path) -> list[Line]:
    return [(number, line.strip()) for number, line in enumerate(read_text(file).rstrip().splitlines(), start=1)]


def _pairs(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Folder and name of each line; none where a line has no colon."""
    if not all(":" in text for _, text in lines):
        return []
    split = (text.split(":", 1) for _, text in lines)
    return [(folder.strip(), name.strip()) for folder, name in split]


def _by_folder(file: Path, lines: Sequence[Line], folders: Sequence[str]) -> tuple[str, ...]:
    known = set(folders)
    found: dict[str, str] = {}
    for (number, _), (folder, name) in zip(lines, _pairs(lines), strict=True):
        if folder not in known:
            raise DataError(f"line {number} of '{file}': {unknown('class folder', folder, folders)}")
        if folder in found:
            raise DataError(f"line {number} of '{file}' names class folder '{folder}' again; keep one line for it.")
        found[folder] = name
    return tuple(found[folder] for folder in folders if folder in found)

"""One pass over a folder: its images, its folders, and the files that are not read."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from vlmadapt.data.image_formats import endings
from vlmadapt.errors import DataError
from vlmadapt.files import printable

IGNORED = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
"""Names, in lower case, that file managers leave in folders; hidden files (`.DS_Store`, `._a.jpg`) are ignored too."""


@dataclass(frozen=True)
class Listing:
    """Content of a folder.

    Attributes:
        images: names of files that are read as images, sorted.
        folders: names of folders, sorted.
        unread: number of other files by ending, in lower case.
    """

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def scan(folder: Path) -> Listing:
    """List a folder without its subfolders' content.

    Raises:
        DataError: it cannot be listed, or a name is not UTF-8.
    """
    found = Listing()
    readable = endings()
    for entry in _entries(folder):
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            continue
        _check_name(folder, entry.name)
        ending = PurePath(entry.name).suffix.lower()
        if entry.is_dir():
            found.folders.append(entry.name)
        elif ending in readable:  # a dangling link too: it is reported when images are checked
            found.images.append(entry.name)
        else:
            found.unread[ending] += 1
    found.images.sort()
    found.folders.sort()
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DataError(f"folder '{printable(folder)}' cannot be listed: {error.strerror}.") from error


def _check_name(folder: Path, name: str) -> None:
    if name.isprintable():
        return
    kinds = {unicodedata.category(character) for character in name}
    if kinds & {"Cs", "Cc"}:  # bytes that are not UTF-8, and control characters
        what = "is not UTF-8" if "Cs" in kinds else "has control characters"
        raise DataError(f"'{printable(name)}' in '{printable(folder)}' has a name that {what}; rename it.")

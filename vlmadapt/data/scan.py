"""One pass over a folder: its images, its folders, and the files that are not read.

Each folder is listed once, with `os.scandir`, which tells files from folders without another look at them.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from vlmadapt.data.image_formats import endings
from vlmadapt.errors import DataError
from vlmadapt.files import printable

IGNORED = frozenset(
    {"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "@eadir"}
    | {"$recycle.bin", "system volume information", "lost+found"}
)
"""Names, in lower case, that file managers and systems leave in folders."""


_progress: ContextVar[Callable[[int], object] | None] = ContextVar("_progress", default=None)


@contextmanager
def scan_progress(found: Callable[[int], object]) -> Iterator[None]:
    """Call a function with the number of images in each folder, as soon as it is listed."""
    token = _progress.set(found)
    try:
        yield
    finally:
        _progress.reset(token)


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
        if ignored(entry.name):
            continue
        _check_name(folder, entry.name)
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a path for each of 100,000 files is slow)
        if entry.is_dir():
            found.folders.append(entry.name)
        elif ending in readable:  # a dangling link too: it is reported when images are checked
            found.images.append(entry.name)
        else:
            found.unread[ending] += 1
    found.images.sort()
    found.folders.sort()
    if (progress := _progress.get()) is not None:
        progress(len(found.images))
    return found


def walk(folder: Path, found: Listing, above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Listing]]:
    """List all folders below a folder, each with its path from there.

    Args:
        folder: the folder.
        found: its own content.
        above: real paths of the folders above it.

    Raises:
        DataError: see `scan`; or a link leads back to a folder above it.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"'{folder}' is a link to a folder above it; remove it, or do not read nested folders.")
    for name in found.folders:
        inside = scan(folder / name)
        yield name, inside
        yield from ((f"{name}/{path}", listing) for path, listing in walk(folder / name, inside, above | {real}))


def ignored(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden (`.DS_Store`, `._a.jpg`), or left by a file manager."""
    return name.startswith(".") or name.lower() in IGNORED


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

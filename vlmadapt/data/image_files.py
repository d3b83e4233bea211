"""Image files that a command line names: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmadapt.data.image_formats import is_image
from vlmadapt.data.scan import ignored, scan, walk
from vlmadapt.errors import DataError
from vlmadapt.files import exists


@dataclass
class ImageFiles:
    """Files to be read.

    Attributes:
        paths: text of the paths, in the order they were named in; folders and patterns are sorted.
        unread: number of other files in the folders and patterns by ending, in lower case.
    """

    paths: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def find_images(given: Sequence[str], recursive: bool = False) -> ImageFiles:
    """Files, all images in folders, and all images that patterns such as `photos/*.jpg` or `**/*.png` match.

    Hidden files and what file managers leave are ignored. A file that is named itself is read whatever its ending.

    Args:
        given: files, folders and patterns.
        recursive: read the folders inside folders too.

    Raises:
        DataError: a file does not exist, or a pattern matches nothing.
    """
    found = ImageFiles()
    for name in given:
        path = Path(name)
        if exists(path) and path.is_dir():
            _add_folder(found, path, recursive)
        elif exists(path):
            found.paths.append(name)
        else:
            _add_pattern(found, name, recursive)
    return found


def listed_images(lines: Iterable[str]) -> Iterator[str]:
    """Paths in a text with one in each line; empty lines are skipped."""
    return (path for line in lines if (path := line.rstrip("\r\n")))


def _add_folder(found: ImageFiles, folder: Path, recursive: bool) -> None:
    top = scan(folder)
    for below, listing in (("", top), *(walk(folder, top) if recursive else ())):
        found.paths += (os.path.join(folder, below, name) for name in listing.images)  # noqa: PTH118 (100,000 of them)
        found.unread += listing.unread


def _add_pattern(found: ImageFiles, pattern: str, recursive: bool) -> None:
    matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    if not matches:
        raise DataError(
            f"no file matches '{pattern}'." if glob.has_magic(pattern) else f"image '{pattern}' does not exist."
        )
    for name in matches:
        path = Path(name)
        if any(ignored(part) for part in path.parts if part not in (".", "..", path.anchor)):
            continue
        if path.is_dir():
            if "**" not in pattern:
                _add_folder(found, path, recursive)
        elif is_image(name):
            found.paths.append(name)
        else:
            found.unread[path.suffix.lower()] += 1

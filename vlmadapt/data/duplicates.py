"""Image files with the same content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from vlmadapt.data.dataset import Example

HEAD = 16 * 2**10
"""Number of leading bytes compared before whole files are read."""

Kind = tuple[str, int]
"""Part ('train', 'val' or 'test') and label of an image."""


def duplicates(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Groups of files with the same content; files that cannot be read belong to none.

    Only files of equal size and equal first bytes are read to the end.
    """
    groups = [list(dict.fromkeys(paths))]
    for key in (_size, _head, _whole):
        groups = [same for group in groups for same in _by(key, group) if len(same) > 1]
    return [tuple(group) for group in groups]


def conflicting(kinds: Mapping[Path, Kind]) -> list[tuple[Path, ...]]:
    """Duplicates that are in two classes, or both in training or validation and in test images."""
    return [group for group in duplicates(kinds) if _conflict([kinds[path] for path in group])]


def kinds_of(train: Sequence[Example], val: Sequence[Example], test: Sequence[Example]) -> dict[Path, Kind]:
    """Part and label of every image."""
    parts = (("train", train), ("val", val), ("test", test))
    return {example.path: (part, example.label) for part, examples in parts for example in examples}


def _conflict(kinds: Sequence[Kind]) -> bool:
    tested = {part == "test" for part, _ in kinds}
    return len({label for _, label in kinds}) > 1 or len(tested) > 1


def _by(key: Callable[[Path], Hashable], paths: Sequence[Path]) -> list[list[Path]]:
    found: dict[Hashable, list[Path]] = {}
    for path in paths:
        try:
            found.setdefault(key(path), []).append(path)
        except OSError:
            continue
    return list(found.values())


def _size(path: Path) -> int:
    return path.stat().st_size


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _whole(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

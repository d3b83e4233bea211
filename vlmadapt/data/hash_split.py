"""Split of data without published parts: a hash of each file's name decides between training, validation and test."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

Files = dict[str, list[Path]]
"""Image files by the name of their class."""

TRAIN, VAL = 0.5, 0.2
"""Expected fractions of training and validation images; the rest is for tests."""
SEED = 1390
"""Salt of every hash; another number would split all data differently."""


def hash_split(files: Files, name_of: Callable[[Path], str]) -> tuple[Files, Files, Files]:
    """Split each class into about 50% train, 20% val and 30% test.

    The part of a file depends on its own name alone, so that no file changes its part when others come or go. One
    exception keeps small classes usable: where the hash leaves a class without a training image, or a class of two or
    more without a test image, the nearest file is moved there.

    Args:
        files: by class.
        name_of: a file's name that stays when all data move: as a rule its path from the data's folder.

    Returns:
        Training, validation and test files; every class is in each, and files keep their order.
    """
    train: Files = {}
    val: Files = {}
    test: Files = {}
    for label, paths in files.items():
        train[label], val[label], test[label] = _cut(paths, name_of)
    return train, val, test


def position(name: str) -> float:
    """A number in [0, 1) from a name; macOS and Linux spell accents differently, which makes no difference here."""
    digest = hashlib.sha256(f"{SEED}/{unicodedata.normalize('NFC', name)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cut(paths: Sequence[Path], name_of: Callable[[Path], str]) -> tuple[list[Path], list[Path], list[Path]]:
    positions = [position(name_of(path)) for path in paths]
    ranked = sorted(range(len(paths)), key=positions.__getitem__)
    last = max(1, len(paths) - 1)  # a test image for every class of two
    n_train = min(max(1, sum(place < TRAIN for place in positions)), last)
    n_held = max(n_train, min(sum(place < TRAIN + VAL for place in positions), last))
    train, val, test = (sorted(part) for part in (ranked[:n_train], ranked[n_train:n_held], ranked[n_held:]))
    return [paths[i] for i in train], [paths[i] for i in val], [paths[i] for i in test]

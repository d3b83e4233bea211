"""Images that show the same picture in other sizes, formats or qualities, mirrored, or cropped to a square."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vlmadapt.data.image_facts import ImageFacts, is_square

SHARE = 0.08
"""Share of the bits in which the hashes of near duplicates may differ."""
MEAN, LARGEST = 4, 40
"""Differences of the small copies' pixels (of 255) that near duplicates may have."""
FLAT = 4.0
"""Standard deviation of each channel of a small copy (of 255) below which it shows too little to be compared."""
CHUNK = 1024
"""Images that are compared with all others at once."""

Array = np.ndarray[Any, np.dtype[Any]]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class LookAlikes:
    """Images that show the same picture.

    Attributes:
        paths: the images.
        how: what tells some of them from others besides size, format and quality: 'mirrored', 'cropped' or both.
    """

    paths: tuple[Path, ...]
    how: frozenset[str]


def near_duplicates(facts: Mapping[Path, ImageFacts]) -> list[LookAlikes]:
    """Groups of images that look the same, mirrored or not; each image is in one group at most.

    Two images belong together if their difference hashes (dHash, Krawetz 2013: is a pixel brighter than its left
    neighbour?) and their small copies are nearly equal. A square image is also compared with the square in the middle
    of others, which is what a backbone sees of them. Other crops and turned copies are not found.
    """
    paths = [path for path, found in facts.items() if _shows_something(found.small)]
    if len(paths) < 2:
        return []
    pairs = _related([facts[path] for path in paths])
    groups = connected(pairs)
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    how: list[set[str]] = [set() for _ in groups]
    for (i, _), relation in pairs.items():
        how[group_of[i]] |= relation
    return [
        LookAlikes(tuple(paths[i] for i in group), frozenset(said)) for group, said in zip(groups, how, strict=True)
    ]


def _related(facts: Sequence[ImageFacts]) -> dict[tuple[int, int], set[str]]:
    """Pairs of images that look the same, and what else tells them apart; the plainest relation of a pair counts."""
    small = np.stack([found.small for found in facts])
    pairs: dict[tuple[int, int], set[str]] = {}
    for mirrored in (set(), {"mirrored"}):
        for i, j in _pairs(small, small[:, :, ::-1] if mirrored else small):
            if i < j:
                pairs.setdefault((i, j), mirrored)
    squares = [i for i, found in enumerate(facts) if is_square(found.size)]
    middles = {i: found.middle for i, found in enumerate(facts) if found.middle is not None}
    middles = {i: middle for i, middle in middles.items() if _shows_something(middle)}
    if not (squares and middles):
        return pairs
    owners, middle = list(middles), np.stack(list(middles.values()))
    for mirrored in (set(), {"mirrored"}):
        for i, j in _pairs(small[squares], middle[:, :, ::-1] if mirrored else middle):
            pair = squares[i], owners[j]
            pairs.setdefault((min(pair), max(pair)), {"cropped"} | mirrored)
    return pairs


def _shows_something(small: Array) -> bool:
    return bool(small.std(axis=(0, 1)).max() >= FLAT)


def connected(pairs: Iterable[tuple[Key, Key]]) -> list[list[Key]]:
    """The groups that pairs form, in order of first appearance."""
    group_of: dict[Key, list[Key]] = {}
    for a, b in pairs:
        first, second = group_of.setdefault(a, [a]), group_of.setdefault(b, [b])
        if first is second:
            continue
        first += second
        group_of.update(dict.fromkeys(second, first))
    return list({id(group): group for group in group_of.values()}.values())


def _pairs(left: Array, right: Array) -> Iterator[tuple[int, int]]:
    """Which of some small copies (N, side, side, 3) are nearly equal to which of others."""
    signs, others = _difference_hash(left), _difference_hash(right)
    colours, their_colours = (small.reshape(len(small), -1).astype(np.int16) for small in (left, right))
    most = SHARE * signs.shape[1]
    for start in range(0, len(left), CHUNK):
        # Of vectors of +1 and -1, the product is the number of equal bits minus that of others.
        different = (signs.shape[1] - signs[start : start + CHUNK] @ others.T) / 2
        for i, j in zip(*np.nonzero(different <= most), strict=True):
            if _nearly_equal(colours[start + int(i)], their_colours[j]):
                yield start + int(i), int(j)


def _nearly_equal(a: Array, b: Array) -> bool:
    difference = np.abs(a - b)
    return bool(difference.mean() <= MEAN and difference.max() <= LARGEST)


def _difference_hash(small: Array) -> Array:
    """Difference hash (N, side * (side - 1)) of small copies, +1 where a pixel is brighter than its left neighbour."""
    grey = small.astype(np.float32).mean(axis=3)
    brighter = grey[:, :, 1:] > grey[:, :, :-1] + 1  # by more than what rounding does to equal pixels
    return np.where(brighter, 1, -1).astype(np.float32).reshape(len(small), -1)

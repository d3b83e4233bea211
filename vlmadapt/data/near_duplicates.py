"""Images that show the same picture in other sizes, formats or qualities."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vlmadapt.data.image_facts import ImageFacts

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


def near_duplicates(facts: Mapping[Path, ImageFacts]) -> list[tuple[Path, ...]]:
    """Groups of images that look the same; each image is in one group at most.

    Two images belong together if their difference hashes (dHash, Krawetz 2013: is a pixel brighter than its left
    neighbour?) and their small copies are nearly equal. Cropped, turned and mirrored copies are not found.
    """
    paths = [path for path, found in facts.items() if found.small.std(axis=(0, 1)).max() >= FLAT]
    if len(paths) < 2:
        return []
    small = np.stack([facts[path].small for path in paths])
    return [tuple(paths[i] for i in group) for group in connected(_pairs(small))]


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


def _pairs(small: Array) -> Iterator[tuple[int, int]]:
    """Pairs of near duplicates among small copies (N, side, side, 3)."""
    signs = _difference_hash(small)
    colours = small.reshape(len(small), -1).astype(np.int16)
    most = SHARE * signs.shape[1]
    for start in range(0, len(small), CHUNK):
        # Of vectors of +1 and -1, the product is the number of equal bits minus that of others.
        different = (signs.shape[1] - signs[start : start + CHUNK] @ signs[start:].T) / 2
        for i, j in zip(*np.nonzero(different <= most), strict=True):
            a, b = start + int(i), start + int(j)
            if a < b and _nearly_equal(colours[a], colours[b]):
                yield a, b


def _nearly_equal(a: Array, b: Array) -> bool:
    difference = np.abs(a - b)
    return bool(difference.mean() <= MEAN and difference.max() <= LARGEST)


def _difference_hash(small: Array) -> Array:
    """Difference hash (N, side * (side - 1)) of small copies, +1 where a pixel is brighter than its left neighbour."""
    grey = small.astype(np.float32).mean(axis=3)
    brighter = grey[:, :, 1:] > grey[:, :, :-1] + 1  # by more than what rounding does to equal pixels
    return np.where(brighter, 1, -1).astype(np.float32).reshape(len(small), -1)

"""What `vlmadapt data check` needs to know of an image file: its size, and a small copy to compare it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlmadapt.data.images import Progress, decoders, open_image, to_rgb
from vlmadapt.errors import DataError

SIDE = 16
"""Pixels of a side of the small copy."""
DECODED = 64
"""Pixels that a side of a JPEG is decoded at least to; less than the whole takes half of the time."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class ImageFacts:
    """An image that can be read.

    Attributes:
        size: width and height in pixels, as stored.
        small: the whole image as RGB of `SIDE` x `SIDE` pixels.
        middle: the square in its middle, likewise; None of a square image.
    """

    size: tuple[int, int]
    small: Pixels
    middle: Pixels | None = None


def inspect_images(
    paths: Sequence[Path], progress: Progress | None = None
) -> tuple[dict[Path, ImageFacts], dict[Path, str]]:
    """Facts of the images that can be read, and why the others cannot be read.

    Args:
        paths: image files.
        progress: called after each image.
    """
    facts: dict[Path, ImageFacts] = {}
    broken: dict[Path, str] = {}
    with decoders() as pool:
        for done, (path, found) in enumerate(zip(paths, pool.map(_inspect, paths), strict=True), start=1):
            if isinstance(found, ImageFacts):
                facts[path] = found
            else:
                broken[path] = found
            if progress:
                progress(done, len(paths))
    return facts, broken


def _inspect(path: Path) -> ImageFacts | str:
    try:
        with open_image(path) as image:
            size = image.size
            image.draft(None, (DECODED, DECODED))
            image.load()
            rgb = to_rgb(image)
            small = _shrunk(rgb)
            middle = None if is_square(size) else _shrunk(rgb, _middle(*rgb.size))
    except DataError as error:
        return str(error)
    return ImageFacts(size, small, middle)


def is_square(size: tuple[int, int]) -> bool:
    """Whether width and height differ by rounding alone, by 2 % at most."""
    return max(size) <= 1.02 * min(size)


def _shrunk(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box))


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest square in the middle."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side

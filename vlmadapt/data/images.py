"""Decode images, and find broken ones before any work starts."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from vlmadapt.cores import usable_cores
from vlmadapt.data.dataset import Example
from vlmadapt.data.image_formats import advice, formats
from vlmadapt.errors import DataError
from vlmadapt.text import first_few, first_line

Progress = Callable[[int, int], None]
"""Called with the number of finished images and the number of all images."""


def read_image(path: Path) -> Image.Image:
    """Decode an image file (see `to_rgb`).

    Raises:
        DataError: the file is missing, truncated, corrupt, no regular file, or of a format that is not read.
    """
    return _read(path)


def check_image(path: Path) -> None:
    """Refuse exactly what `read_image` refuses, in less than half of its time for JPEG files.

    JPEG files are decoded at an eighth of their size: their whole data is read, and few pixels are made of it. Files of
    other formats are decoded as they are.

    Raises:
        DataError: the file is missing, truncated, corrupt, no regular file, or of a format that is not read.
    """
    _read(path, smallest=True)


def _read(path: Path, smallest: bool = False) -> Image.Image:
    with open_image(path) as image:
        if smallest:
            image.draft(None, (1, 1))
        image.load()
        return to_rgb(image)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file that is open; whatever goes wrong with it in the block is told in one sentence.

    Raises:
        DataError: the file is missing, truncated, corrupt, no regular file, or of a format that is not read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise DataError(f"image '{path}' is not a regular file.")
        with Image.open(path, formats=formats()) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"image '{path}' does not exist.") from None
    except Exception as error:  # Pillow's decoders can raise nearly any error on broken files
        install = f"; {advice(path.name)}" if advice(path.name) else ""
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"image '{path}' cannot be read ({cause}){install}.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB: upright by its EXIF orientation, on white where it is transparent, 16 bits scaled to 8."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)  # which would copy an upright image
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it once more


def check_images(
    examples: Sequence[Example], skip: bool = False, progress: Progress | None = None
) -> tuple[Example, ...]:
    """Find images that cannot be read (see `check_image`).

    Args:
        examples: what to check.
        skip: leave broken images out instead of refusing.
        progress: called after each image.

    Returns:
        The examples whose images can be read, in the same order.

    Raises:
        DataError: images are broken and `skip` is not set, or none is left.
    """
    broken = broken_images(examples, progress)
    good = tuple(example for example in examples if example.path not in broken)
    if broken and not (skip and good):
        names = first_few([f"'{path}'" for path in broken])
        then = "no other is left" if skip else "replace or remove them, or leave them out with --skip_corrupt true"
        raise DataError(f"{len(examples) - len(good)} of {len(examples)} images cannot be read: {names}; {then}.")
    return good


def broken_images(examples: Sequence[Example], progress: Progress | None = None) -> dict[Path, str]:
    """Images that cannot be read, and why (see `check_image`)."""
    broken: dict[Path, str] = {}
    with decoders() as pool:
        for done, (example, problem) in enumerate(zip(examples, pool.map(_problem, examples), strict=True), start=1):
            if problem is not None:
                broken[example.path] = problem
            if progress:
                progress(done, len(examples))
    return broken


def decoders(workers: int | None = None, initializer: Callable[[], None] | None = None) -> ThreadPoolExecutor:
    """A pool of threads for decoding, which Pillow does without holding the interpreter lock.

    Args:
        workers: number of threads; None for one on each core, 8 at most.
        initializer: called once in each thread.
    """
    return ThreadPoolExecutor(workers or min(8, usable_cores()), initializer=initializer)


def _problem(example: Example) -> str | None:
    try:
        check_image(example.path)
    except DataError as error:
        return str(error)
    return None


def _to_8_bit(image: Image.Image) -> Image.Image:
    # Pillow clips at 255 instead of scaling, which turns nearly all 16-bit images white. Integers are taken as
    # 16-bit; floats have no known range, so that the image's own is used, and NaN is black.
    values = np.asarray(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no pixel has a finite value")
    low, high = (0.0, 65535.0) if image.mode.startswith("I") else (float(finite.min()), float(finite.max()))
    scaled = np.nan_to_num((values - low) * (255 / max(high - low, 1e-12)), nan=0.0)
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))

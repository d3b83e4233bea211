"""Small pictures on disk, each of its own colour."""

from __future__ import annotations

import zlib
from pathlib import Path

from PIL import Image

from vlmadapt.data.dataset import Dataset, Example


def picture(path: Path, size: tuple[int, int] = (24, 20)) -> Path:
    """An image with a gradient, so that crops and flips show, in a colour that depends on the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    red, green, _, _ = zlib.crc32(f"{path.parent.name}/{path.name}".encode()).to_bytes(4, "big")
    bands = (Image.new("L", size, red), Image.new("L", size, green), Image.linear_gradient("L").rotate(90).resize(size))
    Image.merge("RGB", bands).save(path)
    return path


def class_folder(folder: Path, count: int) -> None:
    for i in range(count):
        picture(folder / f"{i:02}.png")


def examples(folder: Path, count: int, classes: int = 3) -> tuple[Example, ...]:
    return tuple(Example(picture(folder / f"{i:02}.png"), i % classes) for i in range(count))


def listed(*counts: int, split: str = "train", root: str = "/data") -> tuple[Example, ...]:
    """Examples of files that do not exist, `counts[label]` of each label."""
    return tuple(
        Example(Path(root, split, f"c{label}", f"{i}.png"), label) for label, n in enumerate(counts) for i in range(n)
    )


def dataset(*counts: int, root: str = "/data") -> Dataset:
    """A data set of files that do not exist with as many training images of each class."""
    ones = [2] * len(counts)
    return Dataset(
        name="listed",
        classes=tuple(f"class {i}" for i in range(len(counts))),
        templates=("a {}.",),
        train=listed(*counts, root=root),
        val=listed(*ones, split="val", root=root),
        test=listed(*ones, split="test", root=root),
    )

"""Splits of a benchmark: read from CoOp's split files, or made by the same rules."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from errno import ENOENT
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vlmadapt.plugin import DataError, Dataset, Example, read_json

NO_FOLDERS = "has no class folders"
SEED = 1
"""Seed of the splits made here. The published ones were made once with an unknown seed and file order."""
SPLIT_LIMIT = 512 * 2**20
"""Bytes of the largest split file that is read."""


class Item(NamedTuple):
    """An image, its label and its class's name."""

    path: Path
    label: int
    name: str


class Split(NamedTuple):
    """The images of a data set."""

    train: list[Item]
    val: list[Item]
    test: list[Item]


def read_split(file: Path, images: Path) -> Split:
    """A `split_zhou_*.json`: lists `train`, `val`, `test` of (file, label, name), files relative to `images`.

    Raises:
        DataError: the file has another form.
        OSError: it cannot be read.
    """
    try:
        content = read_json(file, SPLIT_LIMIT)
        parts = [
            [Item(images / _inside(path), int(label), str(name)) for path, label, name in content[part]]
            for part in Split._fields
        ]
        return Split(*parts)
    except (DataError, ValueError, KeyError, TypeError) as error:
        cause = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"'{file}' is no split file of CoOp's ({cause}); download it again.") from error


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"'{path}' lies outside the data set's folder")
    return path


def split_folders(images: Path, ignored: Collection[str] = (), names: Mapping[str, str] | None = None) -> Split:
    """Class folders split into 50% train, 20% val and 30% test at random; classes and files are sorted by name first.

    Args:
        images: folder with a folder for each class.
        ignored: folders that are not classes.
        names: class names by folder, if they differ.
    """
    folders = [folder for folder in class_folders(images) if folder.name not in ignored]
    return split_classes([(names or {}).get(f.name, f.name) for f in folders], [image_files(f) for f in folders])


def split_classes(names: Sequence[str], files: Sequence[Sequence[Path]]) -> Split:
    """The images of each class split into 50% train, 20% val and 30% test at random."""
    generator = random.Random(SEED)
    split = Split([], [], [])
    for label, (name, paths) in enumerate(zip(names, files, strict=True)):
        items = [Item(path, label, name) for path in paths]
        generator.shuffle(items)
        n_train, n_val = round(0.5 * len(items)), round(0.2 * len(items))
        cut = (items[:n_train], items[n_train : n_train + n_val], items[n_train + n_val :])
        for part, found in zip(split, cut, strict=True):
            part.extend(found)
    return split


def hold_out(trainval: Sequence[Item], test: list[Item]) -> Split:
    """A published test split, and 20% of each class's other images as val, at random."""
    by_label: dict[int, list[Item]] = {}
    for item in trainval:
        by_label.setdefault(item.label, []).append(item)
    generator = random.Random(SEED)
    train: list[Item] = []
    val: list[Item] = []
    for items in by_label.values():
        generator.shuffle(items)
        n_val = round(0.2 * len(items))
        val += items[:n_val]
        train += items[n_val:]
    return Split(train, val, test)


def class_folders(folder: Path) -> list[Path]:
    """Sorted folders in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise FileNotFoundError(ENOENT, NO_FOLDERS, str(folder))
    return found


def image_files(folder: Path) -> list[Path]:
    """Sorted images in a folder."""
    # Names are sorted before they become paths: ImageNet has 1.3 million.
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
    return [folder / name for name in names]


def to_dataset(name: str, template: str, split: Split, notes: Sequence[str] = ()) -> Dataset:
    """A data set; a class has the name of its first image.

    Raises:
        DataError: a label has no images.
    """
    names: dict[int, str] = {}
    for part in split:
        for item in part:
            names.setdefault(item.label, item.name)
    gap = next((label for label in range(max(names, default=-1) + 1) if label not in names), None)
    if gap is not None or not names:
        raise DataError(f"data set '{name}' has no image of class {gap or 0}; `vlmadapt data check {name}` tells more.")
    classes = tuple(names[label] for label in range(len(names)))
    train, val, test = (tuple(Example(item.path, item.label) for item in part) for part in split)
    return Dataset(name, classes, (template,), train, val, test, tuple(notes))


SUFFIXES = (".jpg", ".jpeg", ".png")
Reader = Callable[[Path], Split]
"""Reads the split of a data set's folder that has no split file."""

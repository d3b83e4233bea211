"""`vlmadapt data check`: counts, copies, and files that are missing or cannot be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vlmadapt.data.dataset import Dataset
from vlmadapt.data.duplicates import conflicting, kinds_of
from vlmadapt.data.images import Progress, broken_images
from vlmadapt.data.load import is_registered, load_data
from vlmadapt.data.registered import find_source

PARTS = ("classes", "train", "val", "test")


@dataclass(frozen=True)
class ClassCount:
    """Images of a class.

    Attributes:
        name: class name.
        folder: class folder or label; empty where it is the name.
        train: number of training images.
        val: number of validation images.
        test: number of test images.
    """

    name: str
    folder: str
    train: int
    val: int
    test: int

    @property
    def total(self) -> int:
        """Number of images."""
        return self.train + self.val + self.test


@dataclass(frozen=True)
class DataReport:
    """Result of `check_data`.

    Attributes:
        name: name of the data set.
        expected: published counts by part, none where not known.
        found: counts by part.
        classes: counts by class, in label order.
        missing: image files that are listed but do not exist, or are empty.
        broken: image files that cannot be read, and why; only own data are decoded.
        copies: groups of files with equal content in two classes, or in both training and test; of own data only.
        notes: sentences that a reader of results must know.
    """

    name: str
    expected: Mapping[str, int]
    found: dict[str, int]
    classes: tuple[ClassCount, ...] = ()
    missing: tuple[Path, ...] = ()
    broken: dict[Path, str] = field(default_factory=dict)
    copies: tuple[tuple[Path, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True if nothing is missing or broken and the counts are the published ones."""
        counted = all(self.found[part] == n for part, n in self.expected.items())
        return counted and not self.missing and not self.broken


def check_data(spec: str, root: Path | None = None, progress: Progress | None = None) -> DataReport:
    """Count classes and images, and check every file.

    Registered data sets are compared with their published counts, and their files looked up; own images are decoded and
    compared with each other as well.

    Args:
        spec: anything that `load_data` takes.
        root: folder that registered data sets lie in.
        progress: called after each decoded image.

    Raises:
        DataError: the data set cannot be read at all; the message names what is missing.
    """
    data = load_data(spec, root=root)
    missing = _missing(data)
    if is_registered(spec):
        expected = dict(find_source(spec).expected)
        return DataReport(spec, expected, _counts(data), _classes(data), missing, notes=data.notes)
    gone = set(missing)
    present = [example for example in data.examples if example.path not in gone]
    return DataReport(
        name=spec,
        expected={},
        found=_counts(data),
        classes=_classes(data),
        missing=missing,
        broken=broken_images(present, progress),
        copies=tuple(conflicting(kinds_of(data.train, data.val, data.test))),
        notes=data.notes,
    )


def _counts(data: Dataset) -> dict[str, int]:
    return dict(zip(PARTS, (len(data.classes), len(data.train), len(data.val), len(data.test)), strict=True))


def _classes(data: Dataset) -> tuple[ClassCount, ...]:
    train, val, test = (Counter(example.label for example in part) for part in (data.train, data.val, data.test))
    folders = data.folders or ("",) * len(data.classes)
    return tuple(
        ClassCount(name, folder, train[label], val[label], test[label])
        for label, (name, folder) in enumerate(zip(data.classes, folders, strict=True))
    )


def _missing(data: Dataset) -> tuple[Path, ...]:
    paths = list(dict.fromkeys(example.path for example in data.examples))
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        return tuple(path for path, size in zip(paths, pool.map(_size, paths), strict=True) if not size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

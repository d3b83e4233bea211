"""`vlmadapt data check`: what of a data set people cannot see before they train on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlmadapt.data.dataset import Dataset
from vlmadapt.data.duplicates import Kind, duplicates, kinds_of
from vlmadapt.data.images import Progress
from vlmadapt.data.load import is_registered, load_data
from vlmadapt.data.registered import find_source

if TYPE_CHECKING:
    from vlmadapt.data.near_duplicates import LookAlikes

PARTS = ("classes", "train", "val", "test")
TINY = 32
"""Pixels of a side below which an image is tiny; backbones see 224 or more."""
HUGE = 50_000_000
"""Pixels above which an image is huge: decoding it takes a second."""


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
class Duplicates:
    """Images that are the same.

    Attributes:
        paths: the images.
        exact: whether the files are equal; else they look the same.
        classes: names of the classes they are in.
        parts: 'train', 'val' and 'test', as far as they are there.
        how: 'mirrored' and 'cropped', where some of them are.
    """

    paths: tuple[Path, ...]
    exact: bool
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    how: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """What they are: 'equal files', 'look the same', 'look the same (mirrored)'."""
        how = f" ({' or '.join(self.how)})" if self.how else ""
        return "equal files" if self.exact else f"look the same{how}"

    @property
    def conflict(self) -> bool:
        """Whether they have two classes, or are in training or validation and in test images."""
        return len(self.classes) > 1 or ("test" in self.parts and len(self.parts) > 1)


@dataclass(frozen=True)
class WrongLabel:
    """An image whose label is likely wrong.

    Attributes:
        path: the image.
        label: name of the class it is in.
        seems: name of the class it seems to belong to.
        probability: probability of its label.
        other: probability of the class it seems to belong to.
    """

    path: Path
    label: str
    seems: str
    probability: float
    other: float


@dataclass(frozen=True)
class LabelCheck:
    """Result of `vlmadapt.evaluation.wrong_labels`.

    Attributes:
        backbone: name of the frozen backbone.
        images: number of images that were compared.
        accuracy: share of the images that a classifier of the backbone's features puts into the class of their label;
            where it is low, many doubts are false alarms.
        doubted: images whose label is likely wrong, the most doubtful first.
    """

    backbone: str
    images: int
    accuracy: float
    doubted: tuple[WrongLabel, ...]


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
        duplicates: images that are the same, those in two classes or parts first; of own data only.
        tiny: images with fewer than `TINY` pixels on a side, and their sizes; of own data only.
        huge: images with more than `HUGE` pixels, and their sizes; of own data only.
        notes: sentences that a reader of results must know.
        labels: labels that are likely wrong; None if they were not checked.
    """

    name: str
    expected: Mapping[str, int]
    found: dict[str, int]
    classes: tuple[ClassCount, ...] = ()
    missing: tuple[Path, ...] = ()
    broken: dict[Path, str] = field(default_factory=dict)
    duplicates: tuple[Duplicates, ...] = ()
    tiny: dict[Path, tuple[int, int]] = field(default_factory=dict)
    huge: dict[Path, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    labels: LabelCheck | None = None

    @property
    def complete(self) -> bool:
        """True if nothing is missing or broken and the counts are the published ones."""
        counted = all(self.found[part] == n for part, n in self.expected.items())
        return counted and not self.missing and not self.broken

    @property
    def copies(self) -> tuple[tuple[Path, ...], ...]:
        """Groups of equal files in two classes, or in both training and test images."""
        return tuple(group.paths for group in self.duplicates if group.exact and group.conflict)

    @property
    def imbalance(self) -> float:
        """Images of the largest class for each image of the smallest."""
        totals = [c.total for c in self.classes]
        return max(totals) / max(min(totals), 1) if totals else 1.0


def check_data(
    spec: str,
    root: Path | None = None,
    progress: Progress | None = None,
    *,
    recursive: bool = False,
    columns: str | None = None,
) -> DataReport:
    """Count classes and images, and check every file.

    Registered data sets are compared with their published counts, and their files looked up; own images are decoded and
    compared with each other as well.

    Args:
        spec: anything that `load_data` takes.
        root: folder that registered data sets lie in.
        progress: called after each decoded image.
        recursive: read nested folders (see `read_folder`).
        columns: other names of a table's columns (see `read_table`).

    Raises:
        DataError: the data set cannot be read at all; the message names what is missing.
    """
    data = load_data(spec, root=root, recursive=recursive, columns=columns)
    return check_dataset(spec, data, progress)


def check_dataset(spec: str, data: Dataset, progress: Progress | None = None) -> DataReport:
    """`check_data` for a data set that is loaded."""
    missing = _missing(data)
    if is_registered(spec):
        expected = dict(find_source(spec).expected)
        return DataReport(spec, expected, _counts(data), _classes(data), missing, notes=data.notes)
    from vlmadapt.data.image_facts import inspect_images
    from vlmadapt.data.near_duplicates import near_duplicates

    kinds = kinds_of(data.train, data.val, data.test)
    gone = set(missing)
    facts, broken = inspect_images([path for path in kinds if path not in gone], progress)
    sizes = {path: found.size for path, found in facts.items()}
    return DataReport(
        name=spec,
        expected={},
        found=_counts(data),
        classes=_classes(data),
        missing=missing,
        broken=broken,
        duplicates=_duplicates(data.classes, kinds, duplicates(facts), near_duplicates(facts)),
        tiny={path: size for path, size in sizes.items() if min(size) < TINY},
        huge={path: size for path, size in sizes.items() if size[0] * size[1] > HUGE},
        notes=data.notes,
    )


def _duplicates(
    classes: Sequence[str],
    kinds: Mapping[Path, Kind],
    exact: Sequence[tuple[Path, ...]],
    near: Sequence[LookAlikes],
) -> tuple[Duplicates, ...]:
    """Groups of equal files, and of images that look the same, conflicts first; a group is not listed twice."""
    content = {path: number for number, group in enumerate(exact) for path in group}
    groups = [(group, True, frozenset[str]()) for group in exact]
    new = (group for group in near if len({content.get(path, path) for path in group.paths}) > 1)
    groups += [(group.paths, False, group.how) for group in new]
    found = [
        Duplicates(
            group,
            is_exact,
            tuple(classes[label] for label in sorted({kinds[path][1] for path in group})),
            tuple(part for part in PARTS[1:] if part in {kinds[path][0] for path in group}),
            tuple(sorted(how)),
        )
        for group, is_exact, how in groups
    ]
    return tuple(sorted(found, key=lambda group: not group.conflict))


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

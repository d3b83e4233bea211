"""Registered data sets: how they are loaded, and how their parts are downloaded."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmadapt.data.dataset import Dataset

ROOT = "VLMADAPT_DATA"
"""Environment variable with the folder of the data sets."""


@dataclass(frozen=True)
class Step:
    """One part of a data set: files or folders that it needs.

    Attributes:
        paths: files or folders that exist once the step is done.
        how: source of the part, or instructions for a person; one sentence.
        run: function that downloads the part or the rest of it; None where only a person can obtain it.
    """

    paths: tuple[Path, ...]
    how: str
    run: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        """True if all paths exist."""
        return all(path.exists() for path in self.paths)


class DataSource(ABC):
    """A registered data set; a plugin registers an instance or the class.

    A data set that needs no files of the user may instead be registered as a function without arguments that returns
    its `Dataset`.

    Attributes:
        needs_root: True if the files are below the user's data root (`--data_root` or `$VLMADAPT_DATA`).
        expected: published number of 'classes', and of images in 'train', 'val' and 'test', as far as known.
        targets: published target data sets of the protocols 'cross-dataset' and 'domain-generalization'.
    """

    needs_root: bool = True
    expected: Mapping[str, int] = {}
    targets: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def load(self, root: Path) -> Dataset:
        """The data set below the data root; images are not opened.

        Raises:
            DataError: a part is missing; the message names it and its source.
        """

    def steps(self, root: Path) -> Sequence[Step]:
        """Parts below the data root, in the order of their download."""
        return ()


@dataclass(frozen=True)
class Included(DataSource):
    """A data set that needs no data root."""

    make: Callable[[], Dataset]
    needs_root = False

    def load(self, root: Path) -> Dataset:
        """The data set that `make` returns."""
        return self.make()


def data_root(given: Path | None = None) -> Path | None:
    """Folder of the data sets: the given one, else `$VLMADAPT_DATA`, else None."""
    named = given or os.environ.get(ROOT)
    return Path(named).expanduser() if named else None

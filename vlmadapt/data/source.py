"""What a registered data set is: something that is loaded and, where that helps, fetched."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmadapt.data.dataset import Dataset

ROOT = "VLMADAPT_DATA"
"""Environment variable with the folder that data sets lie in."""


@dataclass(frozen=True)
class Step:
    """Something that a data set needs in its folder.

    Attributes:
        paths: files or folders that are there once the step is done.
        how: where they come from, or what a person has to do; one sentence.
        run: gets them, from nothing or from where it was interrupted; None where only a person can.
    """

    paths: tuple[Path, ...]
    how: str
    run: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        """All of it is there."""
        return all(path.exists() for path in self.paths)


class DataSource(ABC):
    """A data set by its registered name; a plugin registers an instance, or the class.

    A data set that needs nothing of the user may instead be registered as a function without arguments that returns
    its `Dataset`.

    Attributes:
        needs_root: it lies below the user's data root (`--data_root` or `$VLMADAPT_DATA`).
        expected: how many 'classes' there are, and images in 'train', 'val' and 'test', as far as that is published.
        targets: for the protocols 'cross-dataset' and 'domain-generalization' the data sets that it is published with.
    """

    needs_root: bool = True
    expected: Mapping[str, int] = {}
    targets: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def load(self, root: Path) -> Dataset:
        """The data set below the data root; images are not looked into.

        Raises:
            DataError: something is missing; the message names it and how to get it.
        """

    def steps(self, root: Path) -> Sequence[Step]:
        """What has to be below the data root, in the order in which it is got."""
        return ()


@dataclass(frozen=True)
class Included(DataSource):
    """A data set that needs no data root."""

    make: Callable[[], Dataset]
    needs_root = False

    def load(self, root: Path) -> Dataset:
        """What `make` returns."""
        return self.make()


def data_root(given: Path | None = None) -> Path | None:
    """The folder that data sets lie in: the one given, else `$VLMADAPT_DATA`, else None."""
    named = given or os.environ.get(ROOT)
    return Path(named).expanduser() if named else None

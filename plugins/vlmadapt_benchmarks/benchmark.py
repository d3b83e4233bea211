"""A benchmark data set: its folder, its reader and its published counts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmadapt.plugin import DataError, Dataset, DataSource, Step
from vlmadapt_benchmarks.fetch import Download, steps
from vlmadapt_benchmarks.splits import NO_FOLDERS, Reader, Split, read_split, to_dataset


@dataclass(frozen=True, kw_only=True)
class Benchmark(DataSource):
    """A data set in a published layout, as a rule that of CoOp's DATASETS.md.

    Attributes:
        name: registered name.
        folder: folder below the data root.
        template: published prompt template.
        expected: published numbers of classes and of images.
        reader: reader for data without a split file.
        split_file: published split file in `folder`; empty if the data set comes with its split.
        images: folders of images in `folder`; the split file's paths are relative to a single one.
        downloads: sources of the parts.
        targets: see `DataSource`.
        layout: description of the layout, for messages.
    """

    name: str
    folder: str
    template: str
    expected: Mapping[str, int] = field(default_factory=dict)
    reader: Reader
    split_file: str = ""
    images: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layout: str = "CoOp's DATASETS.md"

    def load(self, root: Path) -> Dataset:
        """The data set below the data root; images are not opened."""
        folder = root / self.folder
        try:
            split, notes = self._read(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(self._missing(root, error)) from error
        except ModuleNotFoundError as error:
            raise DataError(
                f"without '{folder / self.split_file}' data set '{self.name}' is read from .mat files, which takes "
                f"'{error.name}': pip install 'vlmadapt[benchmarks]'."
            ) from error
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise DataError(
                f"data set '{self.name}' in '{folder}' is not as {self.layout} says "
                f"({type(error).__name__}: {error}); `vlmadapt data prepare {self.name}` downloads missing parts."
            ) from error
        return to_dataset(self.name, self.template, split, notes)

    def steps(self, root: Path) -> Sequence[Step]:
        """Parts of its folder."""
        return steps(root / self.folder, self.downloads)

    def _read(self, folder: Path) -> tuple[Split, tuple[str, ...]]:
        if not self.split_file:
            return self.reader(folder), ()
        file = folder / self.split_file
        if file.is_file():
            for images in self.images:
                os.scandir(folder / images).close()  # the folder exists; `data check` checks its files
            return read_split(file, folder / self.images[0] if len(self.images) == 1 else folder), ()
        missing = f"{self.folder}/{self.split_file}"
        note = f"'{missing}' is missing: the split of {self.name} was made by CoOp's rule and is not the published one."
        return self.reader(folder), (note,)

    def _missing(self, root: Path, error: OSError) -> str:
        file = error.filename or root / self.folder
        why = f"'{file}' {error.strerror if error.strerror == NO_FOLDERS else 'is missing'}"
        split = root / self.folder / self.split_file
        if self.split_file and not split.is_file() and file != str(split):
            why += f", and so is '{split}'"
        return (
            f"{why}; data set '{self.name}' lies in '{root / self.folder}' as {self.layout} says, and "
            f"`vlmadapt data prepare {self.name} --data_root {root}` gets it or says how."
        )

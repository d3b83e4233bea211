"""Data sets of a run, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vlmadapt.data.class_split import ClassSplit, read_class_split
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.descriptions import Sentences, merged, read_descriptions
from vlmadapt.data.duplicates import conflicting, kinds_of
from vlmadapt.data.images import check_images
from vlmadapt.data.load import is_registered, load_data
from vlmadapt.data.splits import ClassGroup, Splits, make_groups, make_splits
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import counted


@dataclass(frozen=True)
class Inputs:
    """Data sets of a run.

    Attributes:
        settings: settings of the run.
        data: data set to train on and test.
        targets: further data sets to test, whole where they have no parts of their own.
    """

    settings: FitSettings
    data: Dataset
    targets: tuple[Dataset, ...] = ()

    @classmethod
    def read(cls, settings: FitSettings, classes: Path | None = None) -> Inputs:
        """Read all data sets of a run.

        Args:
            settings: resolved settings.
            classes: file with readable class names, instead of the one in the settings.

        Raises:
            VlmadaptError: one of them cannot be read.
        """
        names = classes or (Path(settings.classes) if settings.classes else None)
        root = Path(settings.data_root) if settings.data_root else None
        read = partial(load_data, root=root, recursive=settings.recursive, columns=settings.columns)
        data = read(settings.data, templates=settings.templates, classes=names)
        targets = (read(name, default=data.templates).only_tested() for name in settings.target_names)
        return cls(settings, data, tuple(targets))

    def splits(self) -> Splits:
        """Training, validation and test images under the run's protocol.

        Raises:
            DataError: see `make_splits`.
        """
        s = self.settings
        splits = make_splits(
            self.data,
            s.protocol or "few-shot",
            s.shots,
            s.seed,
            targets=self.targets,
            class_split=self._class_split(),
            val_shots=s.val_shots,
            unlabelled=s.spec.unlabelled,
        )
        return replace(splits, descriptions=self._descriptions())

    def groups(self) -> tuple[tuple[str, ...], tuple[ClassGroup, ...]]:
        """Classes that the protocol trains on and groups that it tests; no training images are needed.

        Raises:
            DataError: see `make_splits`.
        """
        protocol = self.settings.protocol or "few-shot"
        return make_groups(
            self.data,
            protocol,
            targets=self.targets,
            class_split=self._class_split(),
            unlabelled=self.settings.spec.unlabelled,
        )

    def _class_split(self) -> ClassSplit | None:
        return read_class_split(Path(self.settings.class_split)) if self.settings.class_split else None

    def _descriptions(self) -> Sentences:
        """Sentences by class name: those of the file in the settings, else those of the data sets."""
        if self.settings.descriptions:
            return read_descriptions(Path(self.settings.descriptions))
        return merged((data.name, data.descriptions) for data in (self.data, *self.targets))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the data that a reader of the run's numbers must know."""
        return tuple(note for data in (self.data, *self.targets) for note in data.notes)

    def examples(self) -> list[Example]:
        """Every image once, used or not."""
        every = (example for data in (self.data, *self.targets) for example in data.examples)
        return list({example.path: example for example in every}.values())

    def with_notes(self, notes: Iterable[str]) -> Inputs:
        """The same inputs with more notes on the data."""
        return replace(self, data=replace(self.data, notes=(*self.data.notes, *notes)))

    def only(self, readable: Collection[Path]) -> Inputs:
        """The same inputs with these images only."""
        return replace(
            self, data=_only(self.data, readable), targets=tuple(_only(target, readable) for target in self.targets)
        )


def checked_splits(
    inputs: Inputs, reporter: Reporter, readable: Collection[Path] = frozenset()
) -> tuple[Inputs, Splits]:
    """The splits of a run, with every image readable.

    With `skip_corrupt` broken images are left out before shots are drawn. Without it only the images that the run uses
    are decoded, which on ImageNet is one in twenty; those in `readable` were decoded before.

    Returns:
        The inputs, with notes on broken images and on copies, and their splits.

    Raises:
        DataError: images are broken, or a class to train on has none left.
    """
    skip = inputs.settings.skip_corrupt
    splits = inputs.splits()
    used = tuple(inputs.examples()) if skip else splits.examples()
    images = tuple(example for example in used if example.path not in readable)
    with reporter.bar("checking images", len(images)):
        good = check_images(images, skip, lambda done, total: reporter.advance()) if images else ()
    if len(good) < len(images):
        reporter.say(f"left out: {counted(len(images) - len(good), 'broken image')}.")
        inputs = inputs.only({*(e.path for e in good), *readable})
        splits = inputs.splits()
    return inputs.with_notes(_copies(inputs, splits)), splits


def _copies(inputs: Inputs, splits: Splits) -> Iterator[str]:
    """A note on own images with equal content in another class, or in both training and test images."""
    if is_registered(inputs.settings.data):
        return
    used = {example.path for example in splits.examples()}
    data = inputs.data
    if inputs.settings.protocol == "train-only":
        data = replace(data, train=data.examples, val=(), test=())
    kinds = {path: kind for path, kind in kinds_of(data.train, data.val, data.test).items() if path in used}
    count = sum(map(len, conflicting(kinds)))
    if count:
        yield (
            f"equal content in two classes, or in both training and test images: {counted(count, 'image')}; "
            f"`vlmadapt data check {inputs.settings.data}` lists them."
        )


def _only(data: Dataset, readable: Collection[Path]) -> Dataset:
    train, val, test = (tuple(e for e in part if e.path in readable) for part in (data.train, data.val, data.test))
    return replace(data, train=train, val=val, test=test)

"""The data that the settings of a run ask for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from vlmadapt.data.class_split import ClassSplit, read_class_split
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.images import check_images
from vlmadapt.data.load import load_data
from vlmadapt.data.splits import ClassGroup, Splits, make_groups, make_splits
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.settings import FitSettings


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes:
        settings: that ask for it.
        data: trained on.
        targets: tested on besides.
    """

    settings: FitSettings
    data: Dataset
    targets: tuple[Dataset, ...] = ()

    @classmethod
    def read(cls, settings: FitSettings, classes: Path | None = None) -> Inputs:
        """Read all data sets of a run.

        Args:
            settings: resolved.
            classes: readable class names of a folder, instead of those in the settings.

        Raises:
            VlmadaptError: one of them cannot be read.
        """
        names = classes or (Path(settings.classes) if settings.classes else None)
        root = Path(settings.data_root) if settings.data_root else None
        data = load_data(settings.data, templates=settings.templates, classes=names, root=root)
        targets = (load_data(name, root=root, default=data.templates) for name in settings.target_names)
        return cls(settings, data, tuple(targets))

    def splits(self) -> Splits:
        """What is trained on and tested under the run's protocol.

        Raises:
            DataError: see `make_splits`.
        """
        s = self.settings
        return make_splits(
            self.data,
            s.protocol or "few-shot",
            s.shots,
            s.seed,
            targets=self.targets,
            class_split=self._class_split(),
            val_shots=s.val_shots,
        )

    def groups(self) -> tuple[tuple[str, ...], tuple[ClassGroup, ...]]:
        """Names of the classes that the protocol trains on, and what it tests; training images need not be there.

        Raises:
            DataError: see `make_splits`.
        """
        protocol = self.settings.protocol or "few-shot"
        return make_groups(self.data, protocol, targets=self.targets, class_split=self._class_split())

    def _class_split(self) -> ClassSplit | None:
        return read_class_split(Path(self.settings.class_split)) if self.settings.class_split else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the run's numbers must know of its data."""
        return tuple(note for data in (self.data, *self.targets) for note in data.notes)

    def examples(self) -> list[Example]:
        """Every image, used or not, once."""
        every = (e for data in (self.data, *self.targets) for e in (*data.train, *data.val, *data.test))
        return list({example.path: example for example in every}.values())

    def only(self, readable: Collection[Path]) -> Inputs:
        """Without the images that are not among these."""
        return replace(
            self, data=_only(self.data, readable), targets=tuple(_only(target, readable) for target in self.targets)
        )


def checked_splits(inputs: Inputs, reporter: Reporter) -> tuple[Inputs, Splits]:
    """The splits of a run, every image of which can be read.

    Broken images are left out before shots are drawn where the settings say so; else only the images that the run uses
    are looked into, which on ImageNet is one in twenty.

    Raises:
        DataError: images are broken.
    """
    skip = inputs.settings.skip_corrupt
    splits = inputs.splits()
    used = [*splits.train, *splits.val, *(e for group in splits.groups for e in group.examples)]
    images = tuple({e.path: e for e in (inputs.examples() if skip else used)}.values())
    with reporter.bar("checking images", len(images)):
        good = check_images(images, skip, lambda done, all_of_them: reporter.advance())
    if len(good) == len(images):
        return inputs, splits
    reporter.say(f"{len(images) - len(good)} broken images are left out.")
    inputs = inputs.only({e.path for e in good})
    return inputs, inputs.splits()


def _only(data: Dataset, readable: Collection[Path]) -> Dataset:
    train, val, test = (tuple(e for e in part if e.path in readable) for part in (data.train, data.val, data.test))
    return replace(data, train=train, val=val, test=test)

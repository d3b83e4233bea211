"""A data set: class names, prompt templates and three lists of labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

UNLABELLED = -1
"""Label of an image that is given without one."""


@dataclass(frozen=True)
class Example:
    """One image on disk and the index of its class, or `UNLABELLED`."""

    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """A labelled image collection with the parts `train`, `val` and `test`.

    Attributes:
        name: of the data set.
        classes: class names in natural language, in label order.
        templates: prompt templates with one `{}` for the class name; methods with a single template use the first.
        train: training images; empty if the data are for tests only.
        val: validation images; may be empty.
        test: test images.
        notes: sentences that a reader of results must know, such as a split that is not the published one.
        folders: class folders or labels in label order, where class names come from a file instead.
        cut: True if vlmadapt split the data because they have no parts of their own; any image may then be tested.
        descriptions: sentences that describe a class, by class name; most data sets have none.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    cut: bool = False
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def examples(self) -> tuple[Example, ...]:
        """All images."""
        return (*self.train, *self.val, *self.test)

    def only_tested(self) -> Dataset:
        """The data set where nothing is trained on it: all images are test images, unless it has parts of its own."""
        return replace(self, train=(), val=(), test=self.examples) if self.cut else self

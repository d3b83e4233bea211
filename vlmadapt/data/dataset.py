"""What a data set is: class names, prompt templates and three lists of labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One image on disk and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """A labelled image collection cut into `train`, `val` and `test`.

    `classes` are natural-language names in label order; `templates` are texts with one `{}` for the class name, the
    first of which is the one that methods with a single template use. `notes` say what a reader of results on it must
    know, such as a split that is not the published one. `train` is empty where the data are for tests alone.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()

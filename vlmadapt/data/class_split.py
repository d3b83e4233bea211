"""The user's choice of classes to train on (seen) and classes for tests only (unseen)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlmadapt.data.dataset import Dataset
from vlmadapt.errors import DataError, unknown
from vlmadapt.files import read_yaml_text

FORM = "`seen: [...]` and `unseen: [...]` with class names"


@dataclass(frozen=True)
class ClassSplit:
    """Class names of a data set in label order.

    Attributes:
        seen: classes to train on.
        unseen: classes for tests only; none, or two and more.
        file: file that the names come from, for messages.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    file: Path

    def labels(self, dataset: Dataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Labels of the seen and of the unseen classes; classes with the same name go together.

        Raises:
            DataError: the data set has no class of a name, or a single class is unseen.
        """
        by_name: dict[str, list[int]] = {}
        for label, name in enumerate(dataset.classes):
            by_name.setdefault(name, []).append(label)
        for name in (*self.seen, *self.unseen):
            if name not in by_name:
                raise DataError(f"'{self.file}': {unknown('class', name, dataset.classes)}")
        seen, unseen = (tuple(label for name in names for label in by_name[name]) for names in (self.seen, self.unseen))
        if len(unseen) == 1:
            raise DataError(
                f"'{self.file}' has one unseen class, for which every answer is right; give two or more, or none."
            )
        return seen, unseen


def read_class_split(file: Path) -> ClassSplit:
    """A YAML or JSON file with the lists `seen` and `unseen`.

    Raises:
        DataError: the file cannot be read, has another form, or has a class twice.
    """
    content = read_yaml_text(file)
    if not isinstance(content, dict) or not set(content) <= {"seen", "unseen"} or "seen" not in content:
        raise DataError(f"'{file}' does not say which classes are trained on; write {FORM}.")
    seen, unseen = (_names(file, part, content.get(part) or []) for part in ("seen", "unseen"))
    known: set[str] = set()
    for name in seen + unseen:
        if name in known:
            raise DataError(f"'{file}' has class '{name}' twice; every class is either seen or unseen.")
        known.add(name)
    if len(seen) < 2:
        raise DataError(f"'{file}' has {len(seen)} seen classes; at least two are needed.")
    return ClassSplit(seen, unseen, file)


def _names(file: Path, part: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise DataError(f"'{part}' in '{file}' is no list of class names; write {FORM}.")
    return tuple(given)

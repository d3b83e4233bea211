"""The user's own choice of classes to train on and classes to keep unseen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from vlmadapt.data.dataset import Dataset
from vlmadapt.errors import DataError, unknown

FORM = "`seen: [...]` and `unseen: [...]` with class names"


@dataclass(frozen=True)
class ClassChoice:
    """Class names, as the data set has them, in the order that labels get.

    Attributes:
        seen: trained on.
        unseen: for tests alone; none, or two and more.
        where: the file, for messages.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    where: Path

    def labels(self, dataset: Dataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Labels of the seen and of the unseen classes; classes of the same name go together.

        Raises:
            DataError: a name is no class of the data set, or a single class is unseen.
        """
        places: dict[str, list[int]] = {}
        for label, name in enumerate(dataset.classes):
            places.setdefault(name, []).append(label)
        for name in (*self.seen, *self.unseen):
            if name not in places:
                raise DataError(f"'{self.where}': {unknown('class', name, dataset.classes)}")
        seen, unseen = (tuple(label for name in names for label in places[name]) for names in (self.seen, self.unseen))
        if len(unseen) == 1:
            raise DataError(
                f"'{self.where}' has one unseen class, which cannot be got wrong; give two or more, or none."
            )
        return seen, unseen


def read_choice(file: Path) -> ClassChoice:
    """A YAML or JSON file with the lists `seen` and `unseen`.

    Raises:
        DataError: the file cannot be read, is not like that, or has a class twice.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(f"classes cannot be read from '{file}' ({cause}); give a YAML file with {FORM}.") from error
    if not isinstance(content, dict) or not set(content) <= {"seen", "unseen"} or "seen" not in content:
        raise DataError(f"'{file}' does not say which classes are trained on; write {FORM}.")
    seen, unseen = (_names(file, content.get(part) or []) for part in ("seen", "unseen"))
    twice = next((name for i, name in enumerate(seen + unseen) if name in (seen + unseen)[:i]), None)
    if twice is not None:
        raise DataError(f"'{file}' has class '{twice}' twice; every class is either seen or unseen.")
    if len(seen) < 2:
        raise DataError(f"'{file}' has {len(seen)} seen classes; at least two are needed.")
    return ClassChoice(seen, unseen, file)


def _names(file: Path, given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise DataError(f"'{file}': '{given}' is no list; write {FORM}.")
    return tuple(str(name) for name in given)

"""Sort images into one folder for each predicted class, as links or copies."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.evaluation.predictor import NONE, Prediction


class ImageSorter:
    """Puts images into `root/CLASS/NAME`; a name that is taken by another image gets a number: `photo-2.jpg`.

    Args:
        root: folder; created with the first image.
        classes: class names.
        copy: copy the files; else link to them.

    Raises:
        DataError: two classes would have the same folder.
    """

    def __init__(self, root: Path, classes: Iterable[str], copy: bool = False):
        self.root = root
        self._put: Callable[[Path, Path], object] = _copy if copy else os.symlink
        self._numbers: dict[Path, int] = {}  # the last number that a name needed
        folders: dict[str, str] = {}
        for name in (*classes, NONE):
            folder = folder_name(name)
            first = folders.setdefault(folder.casefold(), name)
            if first != name:
                raise DataError(
                    f"classes '{first}' and '{name}' would be sorted into the same folder; rename one of them."
                )

    def add(self, prediction: Prediction) -> None:
        """Link or copy an image into the folder of its class.

        Raises:
            VlmadaptError: the folder cannot be written to.
        """
        image = Path(str(prediction.image)).absolute()
        folder = self.root / folder_name(prediction.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            place = self._place(folder, image)
            if not os.path.lexists(place):
                self._put(image, place)
        except OSError as error:
            raise VlmadaptError(f"'{image}' cannot be sorted into '{folder}': {error.strerror or error}.") from error

    def _place(self, folder: Path, image: Path) -> Path:
        first = folder / image.name
        number = self._numbers.get(first, 1)
        place = first if number == 1 else _numbered(first, number)
        while os.path.lexists(place) and not _same(place, image):
            number += 1
            place = _numbered(first, number)
        if number > 1:
            self._numbers[first] = number
        return place


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def folder_name(name: str) -> str:
    """A class name as the name of one folder, never of another place."""
    return re.sub(r'[\\/:*?"<>|\0]', "-", name).strip(". ") or "-"


def _same(place: Path, image: Path) -> bool:
    """Whether an image was sorted to this place before: it is a link to it or has its content."""
    if place.is_symlink():
        return place.readlink() == image
    return place.stat().st_size == image.stat().st_size and place.read_bytes() == image.read_bytes()


def _copy(image: Path, place: Path) -> None:
    partial = place.with_name(f".{place.name}.part")
    shutil.copy2(image, partial)
    partial.replace(place)

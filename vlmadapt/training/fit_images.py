"""`fit_images`: train on images and labels from Python, without preparing a folder or a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from vlmadapt.data.image_input import ImageInput, as_rgb, is_one_image
from vlmadapt.errors import DataError
from vlmadapt.files import replacing
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt.training.fit import FitResult, fit

Labelled = tuple[Iterable[ImageInput], Iterable[object]]
"""Images and their labels."""

IMAGES, TABLE = "images", "images.csv"
"""In the run folder: images from memory, and the list of all images."""


def fit_images(
    images: Iterable[ImageInput],
    labels: Iterable[object],
    *,
    val: Labelled | None = None,
    test: Labelled | None = None,
    out: Path | str | None = None,
    **settings: Any,
) -> FitResult:
    """Train a method on images and labels, and test it where test images are given.

    The run is like that of a table of images: it can be loaded, evaluated and resumed. Images from memory are kept in
    its folder, without loss; of paths only the place is noted.

    Args:
        images: paths, PIL images, arrays or tensors, see `vlmadapt.data.image_input.as_rgb`.
        labels: class name of each image, in words that a prompt can use.
        val: validation images and their labels, for methods that use them and for calibrated probabilities.
        test: test images and their labels; without them nothing is tested.
        out: run folder; by default the first free of `runs/METHOD-images`, `runs/METHOD-images-2`, ...
        settings: other fields of `FitSettings`; `method` is needed, and `shots` is 0, all images, unless given.

    Raises:
        VlmadaptError: images and labels do not match, an image cannot be read, or `fit` refuses the settings.

    Example:
        result = fit_images(images, ["cat", "dog", ...], method="tip-adapter-f", backbone="ViT-B-16:openai")
        print(result.predictor.predict("new.jpg"))
    """
    folder = Path(out) if out is not None else _free_folder(str(settings.get("method")))
    Run.new(folder)  # refuses a folder that holds a run
    parts = {"train": (images, labels), **({"val": val} if val else {}), **({"test": test} if test else {})}
    table = _write_table(folder, parts)
    protocol = "few-shot" if test else "train-only"
    return fit(FitSettings(data=str(table), out=str(folder), **{"protocol": protocol, "shots": 0, **settings}))


def _free_folder(method: str) -> Path:
    names = (f"{method}-images{f'-{number}' if number > 1 else ''}" for number in count(1))
    return next(path for name in names if not (path := Path("runs") / name).exists())


def _write_table(folder: Path, parts: dict[str, Labelled]) -> Path:
    """Write images from memory as PNG, and a table of all images with label and split."""
    table = folder / TABLE
    numbers = count()
    with replacing(table) as (temporary,), temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for part, (images, labels) in parts.items():
            for image, label in _pairs(part, images, labels):
                rows.writerow([_place(folder, image, next(numbers)), label, part])
    return table


def _pairs(part: str, images: Iterable[ImageInput], labels: Iterable[object]) -> Iterator[tuple[ImageInput, str]]:
    """Images and the text of their labels.

    Raises:
        DataError: there are more of one than of the other, or one image is given instead of several.
    """
    if is_one_image(images):
        raise DataError(f"one {part} image is given; give a list of images and a list of labels.")
    names = list(labels)
    number = 0
    for number, image in enumerate(images, start=1):
        if number <= len(names):
            yield image, _text(names, number - 1)
    if number != len(names):
        raise DataError(f"there are {number:,} {part} images and {len(names):,} labels; give one for each.")


def _text(labels: Sequence[object], index: int) -> str:
    text = label_text(labels[index])
    if not text:
        raise DataError(f"label {index} is empty; name the class of each image.")
    return text


def label_text(label: object) -> str:
    """The class name that a label is, without blanks around it; empty for None, NaN and pandas' missing values."""
    try:
        missing = label is None or bool(label != label)  # noqa: PLR0124 (NaN)
    except (TypeError, ValueError):  # pandas' NA is neither equal nor unequal to itself
        missing = True
    return "" if missing else str(label).strip()


def _place(folder: Path, image: ImageInput, number: int) -> Path:
    """The absolute path of an image; one from memory is written first, and its path is relative to the run folder."""
    if isinstance(image, str | Path):
        return Path(image).absolute()
    place = Path(IMAGES) / f"{number:06}.png"
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    as_rgb(image).save(folder / place, compress_level=1)
    return place

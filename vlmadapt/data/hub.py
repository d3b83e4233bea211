"""An image classification data set of the Hugging Face Hub, exported once to files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmadapt.data.cache import cache_dir
from vlmadapt.data.classes import alike_note, check_class_names
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.folder import SPLITS
from vlmadapt.data.hash_split import Files, hash_split
from vlmadapt.data.templates import DEFAULT_TEMPLATES
from vlmadapt.errors import DataError
from vlmadapt.files import TEMPORARY
from vlmadapt.text import first_few

MOST = 4
"""Split or column names that an error lists."""


def read_hub(name: str) -> Dataset:
    """The data set `name` of the Hub: its first column of images, and its column of class labels.

    Images are written unchanged into the cache, because everything here works on files. Without a test split the
    validation split is the test split; without both each class is split by `hash_split`. `notes` say so.

    Args:
        name: OWNER/NAME, or a folder that `datasets.load_dataset` reads.

    Raises:
        DataError: the package `datasets` is missing, the data set cannot be loaded, or it has no images with classes.
    """
    splits = _load(name)
    features = next(iter(splits.values())).features
    image = _column(name, features, "Image")
    label = _column(name, features, "ClassLabel")
    names = tuple(features[label].names)
    check_class_names(names, f"hf:{name}")
    folder = cache_dir("hub") / re.sub(r"[^\w.-]+", "-", name.strip("/"))
    examples = {split: _export(rows, image, label, folder) for split, rows in splits.items()}
    cut = not {"val", "test"} & examples.keys()
    examples, notes = _complete(name, examples)
    train, val, test = (tuple(examples.get(split, ())) for split in ("train", "val", "test"))
    return Dataset(name, names, DEFAULT_TEMPLATES, train, val, test, (*notes, *alike_note(names)), cut=cut)


def _load(name: str) -> dict[str, Any]:
    """Splits by their names in vlmadapt."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DataError(f"'hf:{name}' needs the package 'datasets': pip install 'vlmadapt[hub]'.") from error
    try:
        loaded = datasets.load_dataset(name)  # since version 4 this never runs code of the data set
    except Exception as error:  # errors of the library, the Hub and the network
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"'hf:{name}' cannot be loaded: {type(error).__name__}: {cause}") from error
    known = {SPLITS[split]: rows for split, rows in loaded.items() if split in SPLITS}
    if "train" not in known and "test" not in known:
        raise DataError(f"'hf:{name}' has no split train or test, but {first_few(list(loaded), MOST)}.")
    return known


def _column(name: str, features: Mapping[str, Any], kind: str) -> str:
    found = [column for column, feature in features.items() if type(feature).__name__ == kind]
    if not found:
        raise DataError(f"'hf:{name}' has no column of type {kind}; its columns are {first_few(list(features), MOST)}.")
    preferred = "label" if kind == "ClassLabel" else "image"
    return preferred if preferred in found else found[0]


def _export(rows: Any, image: str, label: str, folder: Path) -> list[Example]:
    """Examples of a split, in a folder named by the fingerprint of its content."""
    import datasets

    rows = rows.cast_column(image, datasets.Image(decode=False))
    target = folder / rows._fingerprint
    target.mkdir(parents=True, exist_ok=True)
    examples = []
    for index, row in enumerate(rows):
        if row[label] is None or row[label] < 0:
            continue
        content, path = row[image]["bytes"], row[image]["path"]
        file = Path(path) if content is None else target / f"{index:07}{_suffix(path)}"
        if content is not None and not file.is_file():
            _write(file, content)
        examples.append(Example(file, row[label]))
    return examples


def _write(file: Path, content: bytes) -> None:
    """Write atomically, also next to other processes; without fsync, as a lost image is simply exported again."""
    temporary = file.with_suffix(f".{os.getpid()}{TEMPORARY}")
    temporary.write_bytes(content)
    temporary.replace(file)


def _suffix(path: str | None) -> str:
    return Path(path).suffix.lower() if path else ".png"  # Pillow goes by the content, not by the name


def _complete(name: str, examples: dict[str, list[Example]]) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """The splits with a test split in any case, and notes on where it comes from."""
    if "test" in examples:
        return examples, ()
    if "val" in examples:
        note = f"hf:{name} has no labelled test images; the validation images are tested."
        return {"train": examples["train"], "test": examples["val"]}, (note,)
    files: Files = {}
    for example in examples["train"]:
        files.setdefault(str(example.label), []).append(example.path)
    parts = zip(("train", "val", "test"), hash_split(files, lambda path: path.name), strict=True)
    cut = {s: [Example(path, int(label)) for label, paths in part.items() for path in paths] for s, part in parts}
    note = f"hf:{name} has training images only; to train on them they are split into 50% train, 20% val and 30% test."
    return cut, (note,)

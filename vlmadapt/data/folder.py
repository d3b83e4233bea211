"""A folder of images, one folder per class, as a data set."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from vlmadapt.data.classes import check_class_names, read_class_names
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.templates import DEFAULT_TEMPLATES, check_templates
from vlmadapt.errors import DataError

LAYOUT = "root/class/image or root/{train,val,test}/class/image"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What the parts of a data set are called by those who make it, and here."""
SPLIT_SEED = 0
"""The split belongs to the data, not to a run: runs with different seeds are tested on the same images."""

Files = dict[str, list[Path]]
"""Image files by the name of their class folder, both sorted by name."""


def read_folder(
    root: Path,
    *,
    classes: Path | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    seed: int = SPLIT_SEED,
) -> Dataset:
    """The data set in a folder `root/class/image` or `root/{train,val,test}/class/image`.

    `val` may be missing, or be called `valid` or `validation`.

    Without a split of its own, each class is cut into 50% train, 20% val and 30% test at random but always in the same
    way; a class of two or more images has a test image, a class of one is for training alone. Hidden files, files
    that are no images, and images beside the class folders are ignored; so are folders inside the class folders, which
    is noted.

    Args:
        root: the folder.
        classes: file with readable class names (see `read_class_names`); default `root/classes.txt` where that exists,
            else folder names are class names.
        templates: prompt templates with one `{}`.
        seed: of the split.

    Returns:
        The data set; labels count the class folders in sorted order.

    Raises:
        DataError: the folder is missing, is not laid out like this, has no images or only one class, or the class names
            do not fit.
    """
    _check_root(root)
    train, val, test = _read_split(root) if _is_split(root) else make_split(_read_classes(root), seed)
    folders = tuple(train)
    if len(folders) == 1:
        raise DataError(f"'{root}' has only one class, '{folders[0]}'; at least two are needed: {LAYOUT}.")
    file = classes or root / "classes.txt"
    names = read_class_names(file, folders) if classes or file.is_file() else folders
    check_class_names(names, root)

    def examples(files: Files) -> tuple[Example, ...]:
        return tuple(Example(path, folders.index(name)) for name, paths in files.items() for path in paths)

    return Dataset(
        root.resolve().name,
        names,
        check_templates(templates),
        examples(train),
        examples(val),
        examples(test),
        tuple(_unread(root, (*train.items(), *val.items(), *test.items()))),
    )


def _unread(root: Path, classes: Sequence[tuple[str, list[Path]]]) -> Iterator[str]:
    """A note where class folders have folders inside, whose images one might think were read."""
    holding = {paths[0].parent for _, paths in classes if paths}
    inside = sorted(folder.relative_to(root).as_posix() for parent in holding for folder in _folders(parent))
    if inside:
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        yield f"folders inside the class folders of '{root.name}' are not read: '{inside[0]}'{more}."


def _check_root(root: Path) -> None:
    if root.is_dir():
        return
    if root.exists():
        raise DataError(
            f"'{root}' is a file; give the folder that holds a folder per class, or a .csv or .jsonl table."
        )
    siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
    near = get_close_matches(root.name, siblings, n=1, cutoff=0.5)
    hint = f"did you mean '{root.parent / near[0]}'?" if near else f"give a folder with {LAYOUT}."
    raise DataError(f"folder '{root}' does not exist; {hint}")


def _is_split(root: Path) -> bool:
    # A class may be called 'train' as well, but then it holds images and has other classes beside it.
    names = {path.name for path in _folders(root)}
    return "train" in names and (names <= SPLITS.keys() or bool(_folders(root / "train")))


def _read_split(root: Path) -> tuple[Files, Files, Files]:
    if not (root / "test").is_dir():
        raise DataError(f"'{root}' has a folder 'train' but no folder 'test'; expected {LAYOUT}.")
    train = _read_classes(root / "train")
    held_out = [folder for folder in _folders(root) if SPLITS.get(folder.name) == "val"]
    if len(held_out) > 1:
        raise DataError(f"'{held_out[0]}' and '{held_out[1].name}' both hold validation images; keep one of them.")
    val = _read_classes(held_out[0]) if held_out else {}
    test = _read_classes(root / "test")
    for folder, files in (*((folder, val) for folder in held_out), (root / "test", test)):
        for name in files:
            if name not in train:
                raise DataError(
                    f"'{folder}' has a class folder '{name}' that '{root / 'train'}' lacks; "
                    "add images of it to train or remove it."
                )
    return train, val, test


def make_split(files: Files, seed: int = SPLIT_SEED) -> tuple[Files, Files, Files]:
    """Training, validation and test files of each class, cut as `read_folder` says."""
    train: Files = {}
    val: Files = {}
    test: Files = {}
    for name, paths in files.items():
        # A generator of its own for each class: adding a class leaves the split of the others alone.
        mixed = random.Random(f"{seed}/{name}").sample(paths, len(paths))
        n_train = max(1, round(0.5 * len(paths)))
        n_val = max(0, min(round(0.2 * len(paths)), len(paths) - n_train - 1))
        train[name] = sorted(mixed[:n_train])
        val[name] = sorted(mixed[n_train : n_train + n_val])
        test[name] = sorted(mixed[n_train + n_val :])
    return train, val, test


def _read_classes(folder: Path) -> Files:
    files = {path.name: _images(path) for path in _folders(folder)}
    if not any(files.values()):
        inner = next((inner for path in _folders(folder) for inner in _folders(path) if _images(inner)), None)
        if inner is not None:
            raise DataError(f"the images in '{inner}' lie one folder too deep; expected {LAYOUT}.")
        if _images(folder):
            raise DataError(f"the images in '{folder}' are in no class folder; move them into one per class: {LAYOUT}.")
        raise DataError(f"there are no images in '{folder}'; expected {LAYOUT}.")
    for name, paths in files.items():
        if not paths:
            raise DataError(f"class folder '{folder / name}' has no images; add some or remove it.")
    return files


def _folders(folder: Path) -> list[Path]:
    return _visible(folder, Path.is_dir)


def _images(folder: Path) -> list[Path]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    # A link to nowhere is an image that is missing, which is said when images are checked.
    return _visible(folder, lambda path: path.suffix.lower() in IMG_EXTENSIONS and not path.is_dir())


def _visible(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and wanted(path))
    return sorted(found, key=lambda path: path.name)

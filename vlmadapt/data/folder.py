"""A folder of images, one folder per class, as a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from vlmadapt.data.class_file import ClassFile, read_class_file
from vlmadapt.data.classes import alike_note, check_class_names, in_class_order, naming_note
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.hash_split import Files, hash_split
from vlmadapt.data.image_formats import unread_endings
from vlmadapt.data.scan import Listing, scan, walk
from vlmadapt.data.templates import DEFAULT_TEMPLATES, check_templates
from vlmadapt.errors import DataError
from vlmadapt.files import exists
from vlmadapt.text import counted, first_few

LAYOUT = "root/class/image or root/{train,val,test}/class/image"
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of the parts of a data set, in lower case, and the names used here."""


@dataclass(frozen=True)
class ClassFolders:
    """A folder that holds a folder for each class.

    Attributes:
        folder: the folder.
        listing: its own content.
        classes: content of the class folders by name, which is their path below `folder`.
        nested: whether folders inside class folders are classes too.
    """

    folder: Path
    listing: Listing
    classes: Mapping[str, Listing]
    nested: bool = False

    def files(self) -> Files:
        """Images by class."""
        folders = ((name, self.folder / name, found.images) for name, found in self.classes.items())
        return {name: [folder / image for image in images] for name, folder, images in folders}


def read_folder(
    root: Path,
    *,
    classes: Path | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    recursive: bool = False,
) -> Dataset:
    """The data set in a folder `root/class/image` or `root/{train,val,test}/class/image`.

    Parts may have their other names (`Train`, `training`, `valid`, `validation`, `dev`, `testing`). `val` may be
    missing; where only `test` is missing, `val` is the test part. `train` may be missing for tests only.

    Without such parts each class is split by `hash_split`. Hidden files and what file managers leave are ignored. Other
    files, images next to class folders and, unless `recursive` is set, folders inside them are not read; `notes` count
    them.

    Args:
        root: the folder.
        classes: file with readable class names (see `read_class_file`); by default `root/classes.yaml` or
            `root/classes.txt` where it exists, else folder names are class names.
        templates: prompt templates with one `{}`.
        recursive: read nested folders: every folder with images is a class, named by its path below the root or the
            part, such as `animals/cat`.

    Returns:
        The data set; labels count the class folders by name, or by value where all names are whole numbers.

    Raises:
        DataError: the folder is missing, has another layout, has no images or only one class, or the class names do not
            fit.
    """
    _check_root(root)
    top = scan(root)
    parts = _parts(root, top.folders)
    read = _nested_folders if recursive else _class_folders
    trees = [read(folder, listing) for folder, listing in (parts or {"": (root, top)}).values()]
    folders = in_class_order({name for tree in trees for name in tree.classes})
    if len(folders) == 1:
        raise DataError(f"'{root}' has only one class, '{folders[0]}'; at least two are needed: {LAYOUT}.")
    file = classes or _own_class_file(root)
    named = file is not None
    said = read_class_file(file, folders) if file else ClassFile(tuple(folders))
    names = said.names
    check_class_names(names, root)
    label = {name: i for i, name in enumerate(folders)}

    def examples(files: Files) -> tuple[Example, ...]:
        return tuple(Example(path, label[name]) for name in folders for path in files.get(name, ()))

    below = len((root / "_").as_posix()) - 1
    cut = _given(parts, trees) if parts else hash_split(trees[0].files(), lambda path: path.as_posix()[below:])
    train, val, test = (examples(files) for files in cut)
    notes = [*_unread(root, trees), *_val_is_test(root, parts), *alike_note(names)]
    if file and names != tuple(folders):
        notes.append(naming_note(file, folders, names))
    return Dataset(
        name=root.resolve().name,
        classes=names,
        templates=check_templates(templates),
        train=train,
        val=val,
        test=test,
        notes=tuple(notes),
        folders=tuple(folders) if named else (),
        cut=not parts,
        descriptions=said.descriptions,
    )


def _check_root(root: Path) -> None:
    if exists(root) and root.is_dir():
        return
    if exists(root):
        raise DataError(
            f"'{root}' is a file; give the folder that holds a folder per class, or a .csv or .jsonl table."
        )
    near = get_close_matches(root.name, _siblings(root), n=1, cutoff=0.5)
    hint = f"did you mean '{root.parent / near[0]}'?" if near else f"give a folder with {LAYOUT}."
    raise DataError(f"folder '{root}' does not exist; {hint}")


def _own_class_file(root: Path) -> Path | None:
    """The folder's file of class names.

    Raises:
        DataError: there are two.
    """
    found = [root / name for name in ("classes.yaml", "classes.txt") if (root / name).is_file()]
    if len(found) == 2:
        raise DataError(f"'{root}' has both classes.yaml and classes.txt; keep one of them.")
    return found[0] if found else None


def _siblings(root: Path) -> list[str]:
    try:
        return [path.name for path in root.parent.iterdir()]
    except (OSError, ValueError):
        return []


def _parts(root: Path, folders: Sequence[str]) -> dict[str, tuple[Path, Listing]]:
    """Folders of the parts train, val and test; none where `folders` are classes."""
    found: dict[str, tuple[Path, Listing]] = {}
    for name in folders:
        part = SPLITS.get(name.lower())
        if part is None:
            continue
        if part in found:
            raise DataError(f"'{found[part][0]}' and '{name}' both hold {part} images; keep one of them.")
        found[part] = (root / name, scan(root / name))
    found = {part: found[part] for part in ("train", "val", "test") if part in found}
    # A class may be called 'train' as well, but then it holds images and has other classes next to it.
    only_parts = len(found) == len(folders)
    return found if found and (only_parts or ("train" in found and found["train"][1].folders)) else {}


def _given(parts: Mapping[str, tuple[Path, Listing]], trees: Sequence[ClassFolders]) -> tuple[Files, Files, Files]:
    files = dict(zip(parts, (tree.files() for tree in trees), strict=True))
    if "test" not in files and "val" in files:
        files["test"] = files.pop("val")
    if "test" not in files:
        folder = parts["train"][0]
        raise DataError(f"'{folder.parent}' has a folder '{folder.name}' but no folder 'test' or 'val'; see {LAYOUT}.")
    return files.get("train", {}), files.get("val", {}), files["test"]


def _class_folders(folder: Path, listing: Listing) -> ClassFolders:
    classes = {name: scan(folder / name) for name in listing.folders}
    if not any(found.images for found in classes.values()):
        _refuse_no_images(folder, listing, classes)
    for name, found in classes.items():
        _check_has_images(folder / name, found)
    return ClassFolders(folder, listing, classes)


def _nested_folders(folder: Path, listing: Listing) -> ClassFolders:
    """Every folder below `folder` that has images; those that only hold other folders are no classes."""
    below = dict(walk(folder, listing))
    classes = {path: found for path, found in below.items() if found.images or not found.folders}
    if not any(found.images for found in classes.values()):
        _refuse_no_images(folder, listing, below)
    for path, found in classes.items():
        _check_has_images(folder / path, found)
    return ClassFolders(folder, listing, classes, nested=True)


def _check_has_images(folder: Path, found: Listing) -> None:
    if not found.images:
        unread = f"; not read: {unread_endings(found.unread)}" if found.unread else ""
        raise DataError(f"class folder '{folder}' has no images{unread}; add some or remove it.")


def _refuse_no_images(folder: Path, listing: Listing, classes: Mapping[str, Listing]) -> None:
    deep = (folder / name / inner for name, found in classes.items() for inner in found.folders)
    inner = next((path for path in deep if scan(path).images), None)
    if inner is not None:
        raise DataError(
            f"the images in '{inner}' lie one folder too deep; expected {LAYOUT}. With --recursive every folder "
            "of images is a class."
        )
    if listing.images:
        raise DataError(f"the images in '{folder}' are in no class folder; move them into one per class: {LAYOUT}.")
    unread = sum((found.unread for found in classes.values()), Counter[str]())
    kinds = f" that can be read, only {unread_endings(unread)}" if unread else ""
    raise DataError(f"there are no images in '{folder}'{kinds}; expected {LAYOUT}.")


def _unread(root: Path, trees: Iterable[ClassFolders]) -> Iterator[str]:
    """Notes on files and folders that one might think were read."""
    files: Counter[str] = Counter()
    inside: list[str] = []
    loose = 0
    for tree in trees:
        loose += len(tree.listing.images)
        for name, found in tree.classes.items():
            files += found.unread
            if tree.nested:
                continue
            inside += ((tree.folder / name / inner).relative_to(root).as_posix() for inner in found.folders)
    if files:
        yield f"not read in the class folders of '{root.name}': {unread_endings(files)}."
    if inside:
        yield (
            f"folders inside the class folders of '{root.name}' are not read: {first_few(sorted(inside), 1)}; "
            "with --recursive they are classes."
        )
    if loose:
        yield f"not read next to the class folders of '{root.name}': {counted(loose, 'image')}."


def _val_is_test(root: Path, parts: Mapping[str, tuple[Path, Listing]]) -> Iterator[str]:
    if parts and "test" not in parts:
        yield f"'{root.name}' has no folder 'test': the images in '{parts['val'][0].name}' are tested."

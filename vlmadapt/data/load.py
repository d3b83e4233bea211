"""Load a data set from its name: a registered name, a folder, a table of images, or a name on the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlmadapt.data.class_file import read_class_file
from vlmadapt.data.classes import naming_note
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.folder import LAYOUT, read_folder
from vlmadapt.data.registered import load_registered, registered_names
from vlmadapt.data.table import SUFFIXES, read_table
from vlmadapt.data.templates import DEFAULT_TEMPLATES, check_templates
from vlmadapt.errors import DataError, unknown
from vlmadapt.files import exists

HUB = "hf:"


def load_data(
    spec: str,
    *,
    templates: Sequence[str] | None = None,
    classes: Path | None = None,
    root: Path | None = None,
    default: Sequence[str] = DEFAULT_TEMPLATES,
    recursive: bool = False,
    columns: str | None = None,
) -> Dataset:
    """Load the data set `spec`; a folder with a registered name is written `./name`.

    Args:
        spec: a registered name, `distribution:name` where two distributions use it, a folder (see `read_folder`), a
            CSV, TSV or JSONL file (see `read_table`), or `hf:NAME` (see `read_hub`).
        templates: prompt templates instead of the data set's own.
        classes: file with readable class names instead of the data set's own (see `read_class_file`).
        root: folder of the registered data sets, by default `$VLMADAPT_DATA`.
        default: templates for data without their own: folders, tables, the Hub.
        recursive: read nested folders (see `read_folder`).
        columns: other names of a table's columns (see `read_table`).

    Raises:
        DataError: there is no such data set or folder, or it has a mistake.
        PluginError: the registered data set is broken or ambiguous.
    """
    names = registered_names()
    if spec in names:
        dataset = load_registered(spec, root)
    elif spec.startswith(HUB):
        from vlmadapt.data.hub import read_hub

        dataset = read_hub(spec.removeprefix(HUB))
    elif Path(spec).suffix.lower() in SUFFIXES and not (exists(Path(spec)) and Path(spec).is_dir()):
        dataset = read_table(Path(spec).expanduser(), columns)
    else:
        # The user's file replaces the folder's own classes.txt, which need not even be readable.
        dataset, classes = read_folder(_folder(spec, names), classes=classes, recursive=recursive), None
    if classes:
        dataset = _renamed(dataset, classes)
    own = dataset.templates if spec in names else default
    return replace(dataset, templates=check_templates(own if templates is None else templates))


def is_registered(spec: str) -> bool:
    """True for the name of a registered data set, which `load_data` prefers to a folder."""
    return spec in registered_names()


def short_name(spec: str) -> str:
    """Short name of a data set that can be part of a file name."""
    if is_registered(spec) or spec.startswith(HUB):
        return re.sub(r"[^\w.+-]+", "-", spec.removeprefix(HUB))
    path = Path(spec).expanduser().resolve()
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _renamed(dataset: Dataset, file: Path) -> Dataset:
    said, old = read_class_file(file, dataset.classes), dataset.classes
    notes = (*dataset.notes, naming_note(file, old, said.names))
    described = said.descriptions or dataset.descriptions
    return replace(dataset, classes=said.names, folders=old, notes=notes, descriptions=described)


def _folder(spec: str, registered: set[str]) -> Path:
    path = Path(spec).expanduser()
    is_word = path.name == spec  # a bare word that is no folder is taken for a misspelt name, not for a lost folder
    if is_word and not exists(path):
        names = {name for name in registered if ":" not in name}
        raise DataError(f"{unknown('data set', spec, names)} For your own images give a folder with {LAYOUT}.")
    return path

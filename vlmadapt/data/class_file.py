"""A folder's file of readable class names, and of sentences that describe the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmadapt.data.classes import check_class_names, read_class_names, read_name_list
from vlmadapt.data.descriptions import YAML, Sentences, sentences_of
from vlmadapt.errors import DataError, unknown
from vlmadapt.files import read_yaml_text

FORM = "`FOLDER: {name: NAME, descriptions: [SENTENCE, ...]}` for each class"


@dataclass(frozen=True)
class ClassFile:
    """What a file says about classes.

    Attributes:
        names: class names, in the order of the folders.
        descriptions: sentences by class name; empty in a text file.
    """

    names: tuple[str, ...]
    descriptions: Sentences = field(default_factory=dict)


def read_class_file(file: Path, folders: Sequence[str]) -> ClassFile:
    """Class names, and in a YAML file their descriptions.

    A text file is read by `read_class_names`. A YAML file has, for a class folder or label, its name and its sentences,
    or one of them: `n02099601: {name: golden retriever, descriptions: [...]}`. A folder it leaves out keeps its name.

    Raises:
        DataError: the file cannot be read, has another form, or does not fit the folders.
    """
    if file.suffix.lower() not in YAML:
        return ClassFile(read_class_names(file, folders))
    names, sentences = {folder: folder for folder in folders}, {}
    for folder, said in _entries(file):
        if folder not in names:
            raise DataError(f"'{file}': {unknown('class folder', folder, folders)}")
        names[folder] = str(said.get("name", folder))
        if "descriptions" in said:
            sentences[names[folder]] = sentences_of(said["descriptions"], folder, file)
    found = tuple(names.values())
    check_class_names(found, file)
    return ClassFile(found, sentences)


def read_names(file: Path) -> tuple[str, ...]:
    """Class names in a file that `read_class_file` reads, in the file's order.

    Raises:
        DataError: the file cannot be read, has another form, or has an empty name or one twice.
    """
    if file.suffix.lower() not in YAML:
        return read_name_list(file)
    names = tuple(str(said.get("name", folder)) for folder, said in _entries(file))
    check_class_names(names, file)
    return names


def _entries(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class folder or label, and what a YAML file says about it: `name`, `descriptions` or both."""
    content = read_yaml_text(file)
    if not isinstance(content, dict) or not content:
        raise DataError(f"'{file}' says nothing about classes; write {FORM}.")
    for folder, given in content.items():
        said = (
            {"name": given} if isinstance(given, str) else {"descriptions": given} if isinstance(given, list) else given
        )
        if not isinstance(said, dict) or not said or not set(said) <= {"name", "descriptions"}:
            raise DataError(f"'{file}' says {given!r} about '{folder}'; write {FORM}.")
        yield str(folder), said

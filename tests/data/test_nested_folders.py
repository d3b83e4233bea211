"""Nested folders: each folder with images is a class, named by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.pictures import class_folder
from vlmadapt.data.folder import read_folder
from vlmadapt.errors import DataError


def test_nested_folders_are_classes_named_by_their_path_below_the_part(tmp_path: Path) -> None:
    for part in ("Train", "Test"):
        for name in ("animals/cat", "animals/cat/kittens", "cars"):
            class_folder(tmp_path / part / name, 2)
    data = read_folder(tmp_path, recursive=True)
    assert data.classes == ("animals/cat", "animals/cat/kittens", "cars")
    assert [(e.path.relative_to(tmp_path).as_posix(), e.label) for e in data.test] == [
        (f"Test/{name}/0{i}.png", label) for label, name in enumerate(data.classes) for i in range(2)
    ]
    assert data.notes == ()


def test_nested_folders_without_parts_are_split_by_their_path(tmp_path: Path) -> None:
    for name in ("animals/cat", "animals/dog", "cars"):
        class_folder(tmp_path / name, 6)
    data = read_folder(tmp_path, recursive=True)
    assert data.classes == ("animals/cat", "animals/dog", "cars")
    assert len(data.examples) == 18
    assert {example.label for example in data.train} == {0, 1, 2}


def test_a_link_to_a_folder_above_is_no_endless_tree(flat: Path) -> None:
    (flat / "beagle" / "loop").symlink_to(flat)
    with pytest.raises(DataError, match=r"loop' is a link to a folder above it"):
        read_folder(flat, recursive=True)

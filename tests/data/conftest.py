"""Folders of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.pictures import class_folder


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for name, count in (("tabby_cat", 10), ("beagle", 7), ("axolotl", 3)):
        class_folder(root / name, count)
    return root


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    root = tmp_path / "cut"
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for name in ("b", "a"):
            class_folder(root / split / name, count)
    return root

"""Folders are listed once, whatever their size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlmadapt.data import scan
from vlmadapt.data.folder import read_folder


@pytest.mark.parametrize("recursive", [False, True])
def test_each_folder_is_listed_once(flat: Path, cut: Path, monkeypatch: pytest.MonkeyPatch, recursive: bool) -> None:
    """Whatever the number of images; nothing else looks at the files."""
    listed: list[Path] = []
    entries = scan._entries

    def counting(folder: Path) -> Iterator[os.DirEntry[str]]:
        listed.append(folder)
        return entries(folder)

    monkeypatch.setattr(scan, "_entries", counting)
    seen: list[int] = []
    with scan.scan_progress(seen.append):
        read_folder(flat, recursive=recursive)
    assert sum(seen) == 20
    assert len(seen) == len(listed)
    assert sorted(listed) == sorted([flat, *(flat / name for name in ("axolotl", "beagle", "tabby_cat"))])
    listed.clear()
    read_folder(cut, recursive=recursive)
    assert len(listed) == len(set(listed)) == 10


@pytest.mark.slow
def test_a_hundred_thousand_files_in_ten_thousand_classes_are_read(tmp_path: Path) -> None:
    """With work that grows faster than the number of files this would take minutes."""
    for label in range(10_000):
        (tmp_path / f"c{label}").mkdir()
        for i in range(10):
            (tmp_path / f"c{label}" / f"{i}.jpg").touch()
    data = read_folder(tmp_path)
    assert (len(data.classes), len(data.examples)) == (10_000, 100_000)

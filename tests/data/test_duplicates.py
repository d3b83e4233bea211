"""Files with the same content."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.data.dataset import Example
from vlmadapt.data.duplicates import HEAD, conflicting, duplicates, kinds_of


def write(folder: Path, **contents: bytes) -> list[Path]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_equal_files_are_grouped_and_files_that_differ_late_are_not(tmp_path: Path) -> None:
    long = b"x" * (HEAD + 10)
    a, b, _, d, e, _ = write(tmp_path, a=long, b=long, c=long[:-1] + b"y", d=b"short", e=b"short", f=b"other")
    assert duplicates([a, b, tmp_path / "c", d, e, tmp_path / "f", a, tmp_path / "missing"]) == [(a, b), (d, e)]


def test_only_copies_across_classes_or_into_the_test_images_conflict(tmp_path: Path) -> None:
    names = ("train0", "again0", "val0", "test0", "train1")
    train0, again0, val0, test0, train1 = write(tmp_path, **dict.fromkeys(names, b"same"))

    def found(train: list[Example], val: list[Example], test: list[Example]) -> int:
        return len(conflicting(kinds_of(train, val, test)))

    assert found([Example(train0, 0), Example(again0, 0)], [Example(val0, 0)], []) == 0
    assert found([Example(train0, 0)], [], [Example(test0, 0)]) == 1
    assert found([], [Example(val0, 0)], [Example(test0, 0)]) == 1
    assert found([Example(train0, 0), Example(train1, 1)], [], []) == 1

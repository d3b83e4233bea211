"""Class names of a folder: those of its folders, or readable ones from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.pictures import class_folder
from vlmadapt.data.folder import read_folder
from vlmadapt.errors import DataError


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for name in ("tabby_cat", "beagle", "axolotl"):
        class_folder(tmp_path / "pets" / name, 3)
    return tmp_path / "pets"


def test_names_by_line_in_sorted_folder_order(flat: Path) -> None:
    (flat / "classes.txt").write_text("walking fish\nsmall dog\nstriped cat\n\n")
    data = read_folder(flat)
    assert data.classes == ("walking fish", "small dog", "striped cat")
    assert data.train[0].path.parent.name == "axolotl"


def test_names_by_folder_in_any_order_from_a_given_file(flat: Path, tmp_path: Path) -> None:
    (flat / "classes.txt").write_text("not read")
    names = tmp_path / "names.txt"
    names.write_text("tabby_cat: Katze: getigert\naxolotl: Axolotl\nbeagle : Spürhund\n", encoding="utf-8")
    assert read_folder(flat, classes=names).classes == ("Axolotl", "Spürhund", "Katze: getigert")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\ntwo\n", "names 2 classes but there are 3"),
        ("one\ntwo\nthree\nfour\n", "names 4 classes but there are 3"),
        ("", "names 0 classes but there are 3"),
        ("axolotl: one\nbeagle: two\n", "names 2 classes but there are 3"),
        ("axolotl: one\nbeagel: two\ntabby_cat: three\n", "line 2 .* unknown class folder 'beagel'.*'beagle'"),
        ("axolotl: one\naxolotl: two\nbeagle: three\n", "line 2 .* names class folder 'axolotl' again"),
        ("one\n\nthree\n", "line 2 .* is empty"),
        ("axolotl: one\nbeagle:\ntabby_cat: three\n", "empty name"),
        ("one\n_\nthree\n", "empty name '_'"),
        ("one\ntwo\none\n", "two classes with the name 'one'"),
        ("axolotl: one\nbeagle: two\ntabby_cat: two\n", "two classes with the name 'two'"),
        (f"one\n{'7' * 5000}\nthree\n", "a class name of 5,000 characters"),
    ],
)
def test_names_that_do_not_fit(flat: Path, text: str, message: str) -> None:
    (flat / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_folder(flat)


def test_names_that_are_no_text_or_missing(flat: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt"):
        read_folder(flat, classes=flat / "missing.txt")
    (flat / "classes.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="UTF-8"):
        read_folder(flat)


def test_folders_with_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    for number in range(1, 13):
        class_folder(tmp_path / str(number), 1)
    assert read_folder(tmp_path).classes == tuple(str(number) for number in range(1, 13))
    (tmp_path / "classes.txt").write_text("".join(f"class number {number}\n" for number in range(1, 13)))
    data = read_folder(tmp_path)
    assert {e.path.parent.name: data.classes[e.label] for e in data.examples} == {
        str(number): f"class number {number}" for number in range(1, 13)
    }
    assert data.folders == tuple(str(number) for number in range(1, 13))
    assert data.notes[-1] == (
        "class names come from 'classes.txt': '1' is 'class number 1', '2' is 'class number 2', "
        "'3' is 'class number 3', '4' is 'class number 4', '5' is 'class number 5' and 7 more."
    )


def test_names_that_read_alike_are_noted(tmp_path: Path) -> None:
    for name in ("sea_lion", "sea lion", "Cat", "cat", "dog"):
        class_folder(tmp_path / name, 1)
    assert read_folder(tmp_path).notes == (
        "class names that read alike: 'Cat' and 'cat', 'sea lion' and 'sea_lion'; a prompt can hardly tell them apart.",
    )

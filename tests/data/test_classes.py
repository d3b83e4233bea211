"""Order of class names, names that read alike, and lists of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmadapt.data.class_file import read_names
from vlmadapt.data.classes import alike, in_class_order, read_class_names, read_name_list
from vlmadapt.errors import DataError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "2"], ["2", "9", "10"]),
        (["1", "-1", "0"], ["-1", "0", "1"]),
        (["01", "1", "002"], ["01", "1", "002"]),
        (["9" * 5000, "8"], ["8", "9" * 5000]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["²", "10", "9"], ["10", "9", "²"]),
        (["1.5", "10", "9"], ["1.5", "10", "9"]),
    ],
)
def test_whole_numbers_are_sorted_by_value_and_all_else_as_text(names: list[str], expected: list[str]) -> None:
    assert in_class_order(names) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("sea_lion", "sea lion"),
        ("Cat", "cat"),
        ("jack-o-lantern", "jack o lantern"),
        ("01", "1"),
        ("1", "1.0"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_names_that_read_alike(names: tuple[str, str]) -> None:
    assert alike([names[0], "something else", names[1]]) == [names]


def test_names_that_read_differently() -> None:
    assert alike(["cat", "cats", "1", "10", "1.5", "0.1", "sea lion", "sealion"]) == []


@pytest.mark.parametrize("content", ["cat\ndog\n", "1: cat\n2: dog\n", "\ufeffcat\r\n\r\ndog\r\n"])
def test_a_list_of_names_is_read_like_the_names_of_folders(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.txt").write_bytes(content.encode())
    assert read_name_list(tmp_path / "names.txt") == ("cat", "dog")
    if "\r\n\r\n" not in content:
        assert read_class_names(tmp_path / "names.txt", ["1", "2"]) == ("cat", "dog")


@pytest.mark.parametrize("content", ["dog\ncat\nfox\n", "house cat\nFox\ndog\n"])
def test_a_list_in_another_order_than_the_folders_is_refused(tmp_path: Path, content: str) -> None:
    """A `classes.txt` of other software, in its own order, would give every image the label of another class."""
    (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(DataError, match=r"line \d of '.*' names '(cat|dog)' '(dog|Fox)', which is the name of another"):
        read_class_names(tmp_path / "classes.txt", ["cat", "dog", "fox"])
    names = content.splitlines()
    pairs = "".join(f"{folder}: {name}\n" for folder, name in zip(("cat", "dog", "fox"), names, strict=True))
    (tmp_path / "classes.txt").write_text(pairs)
    assert read_class_names(tmp_path / "classes.txt", ["cat", "dog", "fox"]) == tuple(names)


def test_a_list_may_write_the_folders_names_better(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sea lion\nRed fox\n")
    assert read_class_names(tmp_path / "classes.txt", ["sea_lion", "red-fox"]) == ("sea lion", "Red fox")


def test_the_names_of_a_yaml_file_are_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("n02: {name: red fox, descriptions: [a fox.]}\nn01: tabby cat\nowl: [a bird.]\n")
    assert read_names(tmp_path / "c.yaml") == ("red fox", "tabby cat", "owl")
    (tmp_path / "c.yaml").write_text("n02: {name: owl}\nowl: [a bird.]\n")
    with pytest.raises(DataError, match="two classes with the name 'owl'"):
        read_names(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\ncat\n", "two classes with the name 'cat'"),
        ("cat\n_\n", "empty name '_'"),
        ("a\x07b\nc\n", "control char"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_name_list(tmp_path / "names.txt")

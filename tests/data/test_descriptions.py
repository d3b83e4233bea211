"""Files of class descriptions, and those that come with a folder of images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.pictures import class_folder
from vlmadapt.data.class_file import read_class_file
from vlmadapt.data.descriptions import merged, read_descriptions
from vlmadapt.data.folder import read_folder
from vlmadapt.errors import DataError


@pytest.mark.parametrize(
    ("name", "content"),
    [("d.json", '{"cat": ["a  cat.", "fur"], "dog": "barks"}'), ("d.yaml", "cat: [a  cat., fur]\ndog: barks\n")],
)
def test_json_and_yaml_are_read(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert read_descriptions(tmp_path / name) == {"cat": ("a cat.", "fur"), "dog": ("barks",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "describes no classes"),
        ("{}", "describes no classes"),
        ('{"cat": []}', "no sentences for class 'cat'"),
        ('{"cat": ["a", 3]}', "sentence 2 of class 'cat' .* is 3"),
        ('{"cat": [" "]}', "sentence 1 of class 'cat'"),
        ('{"cat": ["a\\u0007"]}', "control characters"),
        (json.dumps({"cat": ["x" * 2001]}), "2,001 characters"),
    ],
)
def test_other_content_is_refused_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_descriptions(tmp_path / "d.json")


def test_a_yaml_file_of_classes_names_and_describes_them(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("n1: {name: cat, descriptions: [fur]}\nn2: [barks, a dog]\nn3: cow\n")
    found = read_class_file(tmp_path / "c.yaml", ["n1", "n2", "n3", "n4"])
    assert found.names == ("cat", "n2", "cow", "n4")
    assert found.descriptions == {"cat": ("fur",), "n2": ("barks", "a dog")}


@pytest.mark.parametrize(
    ("content", "message"), [("n9: cat", "n9"), ("n1: {title: cat}", "write `FOLDER"), ("n1: n2", "two classes")]
)
def test_a_file_of_classes_that_does_not_fit_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(DataError, match=message):
        read_class_file(tmp_path / "c.yaml", ["n1", "n2"])


def test_a_folder_brings_its_own(tmp_path: Path) -> None:
    for name in ("n1", "n2"):
        class_folder(tmp_path / name, 4)
    (tmp_path / "classes.yaml").write_text("n1: {name: cat, descriptions: [fur]}\n")
    found = read_folder(tmp_path)
    assert (found.classes, dict(found.descriptions)) == (("cat", "n2"), {"cat": ("fur",)})
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="both"):
        read_folder(tmp_path)


def test_two_data_sets_must_agree_on_a_class() -> None:
    assert merged([("a", {"cat": ("x",)}), ("b", {"cat": ("x",), "dog": ("y",)})]) == {"cat": ("x",), "dog": ("y",)}
    with pytest.raises(DataError, match="'a' and 'b' describe the class 'cat' differently"):
        merged([("a", {"cat": ("x",)}), ("b", {"cat": ("z",)})])

"""The user's own seen and unseen classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.pictures import dataset
from vlmadapt.data.class_split import read_class_split
from vlmadapt.data.splits import make_splits
from vlmadapt.errors import DataError

DATA = dataset(3, 3, 3, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "classes.yaml"
    path.write_text("seen: [class 3, class 0]\nunseen: [class 2, class 1]\n")
    return path


def test_labels_follow_the_file(file: Path) -> None:
    splits = make_splits(DATA, "custom", 2, seed=1, class_split=read_class_split(file))
    assert splits.classes == ("class 3", "class 0")
    assert [(g.name, g.role, g.classes) for g in splits.groups] == [
        ("base", "seen", ("class 3", "class 0")),
        ("novel", "unseen", ("class 2", "class 1")),
    ]
    assert {(e.path.parent.name, e.label) for e in splits.train} == {("c3", 0), ("c0", 1)}


def test_unseen_classes_may_be_none(file: Path) -> None:
    file.write_text('{"seen": ["class 1", "class 2"]}')
    (group,) = make_splits(DATA, "custom", 2, seed=1, class_split=read_class_split(file)).groups
    assert group.role == "seen"


def test_classes_of_one_name_go_together(file: Path) -> None:
    # ImageNet has 'missile' and 'sunglasses' twice.
    file.write_text("seen: [class 3, class 0]\nunseen: [class 2]\n")
    twins = replace(DATA, classes=("class 0", "class 2", "class 2", "class 3"))
    assert read_class_split(file).labels(twins) == ((3, 0), (1, 2))


def test_a_single_unseen_class_is_refused(file: Path) -> None:
    file.write_text("seen: [class 3, class 0]\nunseen: [class 2]\n")
    with pytest.raises(DataError, match="one unseen class, for which every answer is right"):
        make_splits(DATA, "custom", 2, seed=1, class_split=read_class_split(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seen: [class 0", "is not valid YAML"),
        ("- class 0", r"write `seen: \[...\]` and `unseen"),
        ("base: [class 0, class 1]", "does not say which classes are trained on"),
        ("seen: class 0", "'seen' in .* is no list of class names"),
        ("seen: [class 0]", "has 1 seen classes; at least two"),
        ("seen: [class 0, class 1]\nunseen: [class 1]", "has class 'class 1' twice"),
    ],
)
def test_files_that_say_something_else(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_class_split(file)


def test_names_are_taken_as_they_are_written(file: Path) -> None:
    file.write_text("seen: [no, 007]\nunseen: [1.0, null]\n")
    split = read_class_split(file)
    assert (split.seen, split.unseen) == (("no", "007"), ("1.0", "null"))


def test_a_class_that_the_data_lack(file: Path) -> None:
    file.write_text("seen: [class 0, clas 1]")
    with pytest.raises(DataError, match=r"unknown class 'clas 1'\. Did you mean 'class 1'"):
        make_splits(DATA, "custom", 2, seed=1, class_split=read_class_split(file))


def test_the_protocol_and_the_file_belong_together(file: Path) -> None:
    with pytest.raises(DataError, match="--class_split FILE"):
        make_splits(DATA, "custom", 2, seed=1)
    with pytest.raises(DataError, match="use --protocol custom"):
        make_splits(DATA, "few-shot", 2, seed=1, class_split=read_class_split(file))
    with pytest.raises(DataError, match="cannot be read"):
        read_class_split(file.with_name("none.yaml"))

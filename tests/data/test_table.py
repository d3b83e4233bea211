"""A CSV or JSONL file of images as a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.pictures import picture
from vlmadapt.data.load import load_data, short_name
from vlmadapt.data.table import read_table
from vlmadapt.errors import DataError


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d", "e", "f"):
        picture(tmp_path / "img" / f"{name}.png")
    return tmp_path


def csv(folder: Path, *lines: str) -> Path:
    file = folder / "list.csv"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def jsonl(folder: Path, *records: object) -> Path:
    file = folder / "list.jsonl"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


def test_csv_with_splits(here: Path) -> None:
    file = csv(
        here, "id,label,path,split", "1,dog,img/a.png,train", "2,cat,img/b.png,Validation", "3,cat,img/c.png,test"
    )
    data = read_table(file)
    assert data.name == "list"
    assert data.classes == ("cat", "dog")
    found = [[(e.path.name, e.label) for e in part] for part in (data.train, data.val, data.test)]
    assert found == [[("a.png", 1)], [("b.png", 0)], [("c.png", 0)]]
    assert all(e.path.is_file() for e in data.train)


def test_jsonl_says_the_same(here: Path) -> None:
    rows = [("img/a.png", "dog", "train"), ("img/b.png", "cat", "train"), (str(here / "img" / "c.png"), "cat", "test")]
    records = [{"path": p, "label": label, "split": split} for p, label, split in rows]
    lines = ("path,label,split", *(",".join(row) for row in rows))
    assert read_table(jsonl(here, *records)) == read_table(csv(here, *lines))


def test_without_splits_rows_in_any_order_give_the_same_cut(here: Path) -> None:
    rows = [f"img/{name}.png,{label}" for name, label in zip("abcdef", "xxxyyy", strict=True)]
    data = read_table(csv(here, "path,label", *rows))
    assert (len(data.train), len(data.val), len(data.test)) == (4, 0, 2)
    assert read_table(csv(here, "path,label", *rows[::-1])) == data


def test_labels_that_are_numbers_are_sorted_as_numbers(here: Path) -> None:
    records = [{"path": "img/a.png", "label": n, "split": s} for n in (10, 9, 2) for s in ("train", "test")]
    assert read_table(jsonl(here, *records)).classes == ("2", "9", "10")


def test_readable_names_and_templates(here: Path) -> None:
    file = csv(here, "path,label,split", "img/a.png,0,train", "img/b.png,1,train", "img/c.png,0,test")
    names = here / "names.txt"
    names.write_text("0: tabby cat\n1: red fox\n")
    data = load_data(str(file), classes=names, templates=["a drawing of a {}."])
    assert data.classes == ("tabby cat", "red fox")
    assert data.templates == ("a drawing of a {}.",)
    assert load_data(str(file), default=["a sketch of a {}."]).templates == ("a sketch of a {}.",)
    assert short_name(str(file)) == "list"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,label"], "lists no image"),
        (
            ["file,label", "img/a.png,x"],
            r"line 2 of '.*' has no path; needed are path and label, there are: file, label",
        ),
        (["path,label", "img/a.png,"], "line 2 of '.*' has no label"),
        (
            ["path,label,split", "img/a.png,x,training"],
            "line 2 of '.*' has the split 'training'; write train, val or test",
        ),
        (["path,label", "img/a.png,x", "img/b.png,x"], "only one class, 'x'"),
        (["path,label", "img/a.png,x", "img/z.png,y"], r"1 of 2 images in '.*' do not exist, the first in line 3"),
        (["path,label,split", "img/a.png,x,train", "img/b.png,y,"], "split ''"),
    ],
)
def test_mistakes_are_named_with_their_line(here: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(csv(here, *lines))


def test_some_rows_without_a_split(here: Path) -> None:
    file = jsonl(here, {"path": "img/a.png", "label": "x", "split": "train"}, {"path": "img/b.png", "label": "y"})
    with pytest.raises(DataError, match=r"line 2 of '.*' has no split, others have"):
        read_table(file)


@pytest.mark.parametrize(("content", "message"), [("{\n", "line 1 of .* no.* valid JSON"), ("[1]\n", "no JSON object")])
def test_lines_that_are_no_objects(here: Path, content: str, message: str) -> None:
    file = here / "list.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'.*none.csv' cannot be read"):
        load_data(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("path,label\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="give a UTF-8 file"):
        load_data(str(tmp_path / "latin.csv"))

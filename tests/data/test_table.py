"""A CSV or JSONL file of images as a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.pictures import picture
from vlmadapt.data.load import load_data, short_name
from vlmadapt.data.splits import make_splits
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
    assert len(data.examples) == 6
    assert read_table(csv(here, "path,label", *rows[::-1])) == data


def test_labels_that_are_numbers_are_sorted_as_numbers(here: Path) -> None:
    records = [{"path": f"img/{name}.png", "label": n} for name, n in zip("abcdef", (10, 9, 2, 10, 9, 2), strict=True)]
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
            r"line 2 of '.*' has no path; needed are path and label, the columns are: file, label",
        ),
        (["path,label", "img/a.png,"], "line 2 of '.*' has no label"),
        (
            ["path,label,split", "img/a.png,x,extra"],
            "line 2 of '.*' has the split 'extra'; write train, val or test",
        ),
        (["path,label", "img/a.png,x", "img/b.png,x"], "only one class, 'x'"),
        (["path,label", "img/a.png,x", "img/z.png,y"], r"1 of 2 images in '.*' do not exist, the first in line 3"),
        (["path,label,split", "img/a.png,x,train", "img/b.png,y,"], "split ''"),
        (["path,label", "img/a.png,x", "img/b.png,y", "img/../img/a.png,y"], "lines 2 and 4 .* labels 'x' and 'y'"),
        (["path,label,split", "img/a.png,x,train", "img/a.png,x,test"], "lines 2 and 3 .* splits 'train' and 'test'"),
        (["path,label", "img/a.png,Boston, MA"], "line 2 of .* has more values than columns"),
        (["path,Path,label", "img/a.png,b,x"], "two columns 'path'"),
        (["path,label", f"{'x' * 5000}.png,x", "img/b.png,y"], "1 of 2 images in '.*' do not exist"),
        (["path,label", f"img/a.png,{'7' * 5000}", "img/b.png,8"], "a class name of 5,000 characters"),
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


@pytest.mark.parametrize("missing", ["NaN", "null", '""'])
def test_a_label_that_is_missing_is_no_class(here: Path, missing: str) -> None:
    file = here / "list.jsonl"
    file.write_text(f'{{"path": "img/a.png", "label": "x"}}\n{{"path": "img/b.png", "label": {missing}}}\n')
    with pytest.raises(DataError, match=r"line 2 of '.*' has no label"):
        read_table(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'.*none.csv' cannot be read"):
        load_data(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("path,label\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 text \(line 2\)"):
        load_data(str(tmp_path / "latin.csv"))


def test_equal_rows_count_once_and_are_noted(here: Path) -> None:
    rows = ["img/a.png,x", "img/b.png,y"]
    once = read_table(csv(here, "path,label", *rows))
    thrice = read_table(csv(here, "path,label", *rows, f"{here}/img/a.png,x", *rows))
    assert (thrice.train, thrice.val, thrice.test) == (once.train, once.val, once.test)
    assert thrice.notes == ("'list.csv' repeats images in 3 rows; each image is used once.",)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_header_case_blanks_back_slashes_and_byte_order_mark(here: Path, separator: str) -> None:
    expected = read_table(csv(here, "path,label,split", "img/a.png,x,train", "img/b.png,y,val", "img/c.png,y,test"))
    rows = [[" Path", "LABEL ", "Split"], ["img\\a.png", "x", "Training"], ["img\\b.png", "y", "dev"]]
    rows.append([str(here / "img" / "c.png"), "y", "TEST"])
    text = "\r\n".join(separator.join(row) for row in rows)
    (here / "list.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_table(here / "list.csv") == expected


def test_columns_may_have_other_names(here: Path) -> None:
    expected = read_table(csv(here, "path,label,split", "img/a.png,x,train", "img/b.png,y,train", "img/c.png,y,test"))
    file = csv(here, "Image ,species,fold,label", "img/a.png,x,train,9", "img/b.png,y,train,9", "img/c.png,y,test,9")
    columns = "path=image, label=Species,split=fold"
    assert load_data(str(file), columns=columns) == expected
    records = [
        {"image": f"img/{n}.png", "species": s, "fold": f}
        for n, s, f in (("a", "x", "train"), ("b", "y", "train"), ("c", "y", "test"))
    ]
    assert read_table(jsonl(here, *records), columns) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("image", "columns 'image' are not understood; write for example path=image"),
        ("file=image", "are not understood"),
        ("path=picture", r"'.*list.csv' has no column 'picture' for the path; its columns are: image, label"),
    ],
)
def test_columns_that_do_not_exist(here: Path, columns: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(csv(here, "Image,label", "img/a.png,x", "img/b.png,y"), columns)


def test_without_a_test_split_the_validation_images_are_tested(here: Path) -> None:
    data = read_table(csv(here, "path,label,split", "img/a.png,x,train", "img/b.png,y,train", "img/c.png,y,val"))
    assert ([e.path.name for e in data.test], data.val) == (["c.png"], ())
    assert data.notes == ("'list.csv' has no images of the split test: those of val are tested.",)


def test_the_split_follows_the_path_below_the_table(here: Path) -> None:
    rows = [f"img/{name}.png,{label}" for name, label in zip("abcdef", "xxxyyy", strict=True)]
    before = [[e.path.name for e in part] for part in (read_table(csv(here, "path,label", *rows)).train,)]
    absolute = [f"{here}/{row}" for row in rows]
    assert [[e.path.name for e in read_table(csv(here, "path,label", *absolute)).train]] == before


@pytest.mark.parametrize("label", ["²", "-3", "no", "1e3"])
def test_odd_labels_are_names(here: Path, label: str) -> None:
    rows = [f"img/{name}.png,{text}" for name, text in zip("abcd", (label, "5", label, "5"), strict=True)]
    assert set(read_table(csv(here, "path,label", *rows)).classes) == {label, "5"}


def test_a_class_without_training_images_is_refused_where_it_is_trained_on(here: Path) -> None:
    rows = ["img/a.png,x,train", "img/b.png,y,train", "img/c.png,z,test"]
    data = read_table(csv(here, "path,label,split", *rows))
    with pytest.raises(DataError, match="class 'z' of 'list' has no training images"):
        make_splits(data, "few-shot", 1, seed=1)

"""Reading a folder of images: both layouts, readable names, and one clear sentence for every mistake."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.pictures import class_folder, picture
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.folder import read_folder
from vlmadapt.data.images import check_images
from vlmadapt.errors import DataError


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


def per_class(examples: tuple[Example, ...], dataset: Dataset) -> list[int]:
    return [sum(e.label == label for e in examples) for label in range(len(dataset.classes))]


def test_flat_folder_is_split_per_class(flat: Path) -> None:
    data = read_folder(flat)
    assert data.name == "pets"
    assert data.classes == ("axolotl", "beagle", "tabby_cat")
    assert data.templates == ("a photo of a {}.",)
    assert per_class(data.train, data) == [2, 4, 5]
    assert per_class(data.val, data) == [0, 1, 2]
    assert per_class(data.test, data) == [1, 2, 3]
    paths = [e.path for e in (*data.train, *data.val, *data.test)]
    assert len(set(paths)) == len(paths) == 20
    assert all(e.path.parent.name == data.classes[e.label] for e in (*data.train, *data.val, *data.test))


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (4, (2, 1, 1)), (5, (2, 1, 2))])
def test_small_classes_keep_a_training_and_where_possible_a_test_image(
    tmp_path: Path, count: int, sizes: tuple[int, int, int]
) -> None:
    class_folder(tmp_path / "few", count)
    class_folder(tmp_path / "many", 10)
    data = read_folder(tmp_path)
    assert tuple(per_class(part, data)[0] for part in (data.train, data.val, data.test)) == sizes


def test_split_is_random_but_always_the_same(flat: Path) -> None:
    assert read_folder(flat) == read_folder(flat)
    assert read_folder(flat, seed=1).test != read_folder(flat).test
    names = [e.path.name for e in read_folder(flat).test if e.label == 2]
    assert names != ["07.png", "08.png", "09.png"]


def test_order_of_the_file_system_does_not_matter(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_folder(flat)
    iterdir = Path.iterdir

    def backwards(self: Path) -> Iterator[Path]:
        return reversed(list(iterdir(self)))

    monkeypatch.setattr(Path, "iterdir", backwards)
    assert read_folder(flat) == expected


def test_another_class_leaves_the_split_of_the_others(flat: Path) -> None:
    before = [e.path for e in read_folder(flat).test]
    class_folder(flat / "camel", 5)
    after = [e.path for e in read_folder(flat).test if e.path.parent.name != "camel"]
    assert after == before


def test_given_split_is_kept(cut: Path) -> None:
    data = read_folder(cut)
    assert data.classes == ("a", "b")
    assert [(e.path.relative_to(cut).as_posix(), e.label) for e in data.test] == [
        ("test/a/00.png", 0),
        ("test/a/01.png", 0),
        ("test/b/00.png", 1),
        ("test/b/01.png", 1),
    ]
    assert (len(data.train), len(data.val)) == (6, 2)


def test_validation_folder_may_be_missing(cut: Path) -> None:
    shutil.rmtree(cut / "val")
    assert read_folder(cut).val == ()


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_validation_folder_may_have_its_other_names(cut: Path, name: str) -> None:
    (cut / "val").rename(cut / name)
    assert per_class(read_folder(cut).val, read_folder(cut)) == [1, 1]
    class_folder(cut / "val" / "a", 1)
    with pytest.raises(DataError, match="both hold validation images"):
        read_folder(cut)


def test_folders_inside_class_folders_are_noted(flat: Path, cut: Path) -> None:
    before = read_folder(flat)
    class_folder(flat / "beagle" / "puppies", 2)
    data = read_folder(flat)
    assert (data.train, data.val, data.test) == (before.train, before.val, before.test)
    assert data.notes == ("folders inside the class folders of 'pets' are not read: 'beagle/puppies'.",)
    class_folder(cut / "test" / "a" / "more", 1)
    class_folder(cut / "train" / "a" / "more", 1)
    assert read_folder(cut).notes[0].endswith("not read: 'test/a/more' and 1 more.")


def test_images_one_folder_too_deep(tmp_path: Path) -> None:
    for name in "ab":
        class_folder(tmp_path / name / "photos", 2)
    with pytest.raises(DataError, match="photos' lie one folder too deep"):
        read_folder(tmp_path)


def test_a_link_to_nowhere_is_an_image_that_is_missing(flat: Path) -> None:
    (flat / "axolotl" / "lost.png").symlink_to(flat / "nowhere.png")
    data = read_folder(flat)
    every = [*data.train, *data.val, *data.test]
    with pytest.raises(DataError, match=r"1 of 21 images cannot be read: '.*lost.png'"):
        check_images(every)
    assert len(check_images(every, skip=True)) == len(every) - 1


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        class_folder(tmp_path / name, 2)
    assert read_folder(tmp_path).classes == ("car", "train")


def test_hidden_and_other_files_are_ignored(flat: Path) -> None:
    expected = read_folder(flat)
    class_folder(flat / ".thumbnails", 2)
    picture(flat / "beagle" / ".hidden.png")
    (flat / "beagle" / "notes.txt").write_text("good dogs")
    (flat / "README.md").write_text("pets")
    picture(flat / "cover.png")
    assert read_folder(flat) == expected


def test_extensions_in_capitals_count(flat: Path) -> None:
    (flat / "axolotl" / "00.png").rename(flat / "axolotl" / "00.PNG")
    assert "00.PNG" in {e.path.name for part in (read_folder(flat).train, read_folder(flat).test) for e in part}


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


def test_missing_folder_names_the_nearest(flat: Path) -> None:
    with pytest.raises(DataError, match=r"'.*/pest' does not exist; did you mean '.*/pets'\?"):
        read_folder(flat.with_name("pest"))
    with pytest.raises(DataError, match="does not exist; give a folder"):
        read_folder(flat / "nothing" / "here")


def test_a_file_is_no_folder(flat: Path) -> None:
    with pytest.raises(DataError, match="is a file"):
        read_folder(flat / "beagle" / "00.png")


def test_no_images_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in"):
        read_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no images in"):
        read_folder(tmp_path)


def test_a_class_without_images(flat: Path) -> None:
    (flat / "dodo").mkdir()
    with pytest.raises(DataError, match=r"'.*dodo' has no images"):
        read_folder(flat)


def test_images_without_class_folders(tmp_path: Path) -> None:
    class_folder(tmp_path, 3)
    with pytest.raises(DataError, match="in no class folder"):
        read_folder(tmp_path)


def test_split_without_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        class_folder(tmp_path / split, 3)
    with pytest.raises(DataError, match=r"'.*train' are in no class folder"):
        read_folder(tmp_path)


def test_only_one_class(tmp_path: Path) -> None:
    class_folder(tmp_path / "cat", 3)
    with pytest.raises(DataError, match="only one class, 'cat'"):
        read_folder(tmp_path)


def test_folder_with_an_unreadable_name(flat: Path) -> None:
    class_folder(flat / "__", 2)
    with pytest.raises(DataError, match="empty name '__'"):
        read_folder(flat)


def test_split_without_test(cut: Path) -> None:
    shutil.rmtree(cut / "test")
    with pytest.raises(DataError, match="no folder 'test'"):
        read_folder(cut)


def test_test_class_that_train_lacks(cut: Path) -> None:
    class_folder(cut / "test" / "c", 1)
    with pytest.raises(DataError, match=r"'.*test' has a class folder 'c' that '.*train' lacks"):
        read_folder(cut)

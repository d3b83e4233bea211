"""Reading a folder of images: both layouts, and one clear sentence for every mistake."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import class_folder, picture
from vlmadapt.data import image_formats, scan
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.folder import read_folder
from vlmadapt.data.images import check_images
from vlmadapt.data.splits import make_splits
from vlmadapt.errors import DataError


def per_class(examples: tuple[Example, ...], dataset: Dataset) -> list[int]:
    return [sum(e.label == label for e in examples) for label in range(len(dataset.classes))]


def parts(data: Dataset) -> dict[Path, str]:
    """The part of each file."""
    named = (("train", data.train), ("val", data.val), ("test", data.test))
    return {e.path: name for name, part in named for e in part}


def test_flat_folder_is_split_per_class(flat: Path) -> None:
    data = read_folder(flat)
    assert data.name == "pets"
    assert data.classes == ("axolotl", "beagle", "tabby_cat")
    assert data.templates == ("a photo of a {}.",)
    assert len(parts(data)) == len(data.examples) == 20
    assert all(per_class(part, data)[label] for part in (data.train, data.test) for label in range(3))
    assert all(e.path.parent.name == data.classes[e.label] for e in data.examples)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 0, 0]), (2, [1, 0, 1])])
def test_small_classes_keep_a_training_and_where_possible_a_test_image(
    tmp_path: Path, count: int, sizes: list[int]
) -> None:
    class_folder(tmp_path / "few", count)
    class_folder(tmp_path / "many", 10)
    data = read_folder(tmp_path)
    assert [per_class(part, data)[0] for part in (data.train, data.val, data.test)] == sizes


def test_files_that_come_or_go_leave_the_part_of_the_others(flat: Path) -> None:
    before = parts(read_folder(flat))
    for i in range(10, 40):
        picture(flat / "tabby_cat" / f"{i}.png")
    class_folder(flat / "camel", 5)
    after = parts(read_folder(flat))
    assert {path: after[path] for path in before} == before
    gone = flat / "tabby_cat" / "03.png"
    gone.unlink()
    less = parts(read_folder(flat))
    assert less == {path: part for path, part in after.items() if path != gone}


def test_a_moved_folder_keeps_its_split(flat: Path, tmp_path: Path) -> None:
    before = {path.relative_to(flat): part for path, part in parts(read_folder(flat)).items()}
    moved = tmp_path / "elsewhere" / "animals"
    moved.parent.mkdir()
    flat.rename(moved)
    assert {path.relative_to(moved): part for path, part in parts(read_folder(moved)).items()} == before


def test_order_of_the_file_system_does_not_matter(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_folder(flat)
    entries = scan._entries

    def backwards(folder: Path) -> Iterator[os.DirEntry[str]]:
        return reversed(list(entries(folder)))

    monkeypatch.setattr(scan, "_entries", backwards)
    assert read_folder(flat) == expected


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


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "valid", "Test"), ("training", "validation", "testing"), ("TRAIN", "dev", "TEST")],
)
def test_parts_may_have_their_other_names(cut: Path, train: str, val: str, test: str) -> None:
    expected = parts(read_folder(cut))
    for old, new in (("train", train), ("val", val), ("test", test)):
        (cut / old).rename(cut / "moving")
        (cut / "moving").rename(cut / new)
    data = read_folder(cut)
    assert data.classes == ("a", "b")
    assert sorted(parts(data).values()) == sorted(expected.values())


def test_two_folders_for_one_part_are_refused(cut: Path) -> None:
    class_folder(cut / "dev" / "a", 1)
    with pytest.raises(DataError, match="both hold val images"):
        read_folder(cut)


def test_without_a_test_folder_the_validation_images_are_tested(cut: Path) -> None:
    shutil.rmtree(cut / "test")
    data = read_folder(cut)
    assert [e.path.relative_to(cut).parts[0] for e in data.test] == ["val", "val"]
    assert data.val == ()
    assert data.notes == ("'cut' has no folder 'test': the images in 'val' are tested.",)


def test_a_folder_with_test_alone_is_for_tests(cut: Path) -> None:
    for name in ("train", "val"):
        shutil.rmtree(cut / name)
    data = read_folder(cut)
    assert (data.train, data.val, len(data.test)) == ((), (), 4)


def test_folders_inside_class_folders_are_noted(flat: Path, cut: Path) -> None:
    before = read_folder(flat)
    class_folder(flat / "beagle" / "puppies", 2)
    data = read_folder(flat)
    assert (data.train, data.val, data.test) == (before.train, before.val, before.test)
    assert data.notes == (
        "folders inside the class folders of 'pets' are not read: beagle/puppies; with --recursive they are classes.",
    )
    class_folder(cut / "test" / "a" / "more", 1)
    class_folder(cut / "train" / "a" / "more", 1)
    assert read_folder(cut).notes[0].endswith("not read: test/a/more and 1 more; with --recursive they are classes.")


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


def test_hidden_files_and_what_file_managers_leave_are_ignored(flat: Path) -> None:
    expected = read_folder(flat)
    class_folder(flat / ".thumbnails", 2)
    picture(flat / "beagle" / ".hidden.png")
    for name in ("Thumbs.db", ".DS_Store", "._00.png", "desktop.ini", "Icon\r"):
        (flat / "beagle" / name).touch()
    class_folder(flat / "__MACOSX" / "beagle", 2)
    (flat / "README.md").write_text("pets")
    assert read_folder(flat) == expected


def test_files_that_are_not_read_are_counted_by_ending(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(scan, "endings", image_formats.endings.__wrapped__)
    monkeypatch.setattr(image_formats, "formats", image_formats.formats.__wrapped__)
    for name in ("a.heic", "b.HEIC", "notes.txt", "raw"):
        (flat / "beagle" / name).touch()
    picture(flat / "cover.png")
    assert read_folder(flat).notes == (
        "not read in the class folders of 'pets': 2 .heic (pip install 'vlmadapt[heif]'), 1 without an ending, 1 .txt.",
        "not read next to the class folders of 'pets': 1 image.",
    )
    (flat / "dodo").mkdir()
    (flat / "dodo" / "a.heic").touch()
    with pytest.raises(DataError, match=r"dodo' has no images; not read: 1 \.heic \(pip install 'vlmadapt\[heif\]'\)"):
        read_folder(flat)


@pytest.mark.parametrize("ending", [".gif", ".avif", ".jfif", ".jpe", ".jp2", ".tiff", ".bmp"])
def test_formats_that_pillow_reads_are_read(flat: Path, ending: str) -> None:
    Image.new("RGB", (8, 8)).save(flat / "beagle" / f"photo{ending}")
    paths = [e.path for e in read_folder(flat).examples]
    assert flat / "beagle" / f"photo{ending}" in paths


def test_postscript_is_no_image(flat: Path) -> None:
    (flat / "beagle" / "a.eps").touch()
    assert "1 .eps" in read_folder(flat).notes[0]


def test_extensions_in_capitals_count(flat: Path) -> None:
    (flat / "axolotl" / "00.png").rename(flat / "axolotl" / "00.PNG")
    assert "00.PNG" in {e.path.name for part in (read_folder(flat).train, read_folder(flat).test) for e in part}


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


def test_split_without_val_and_test(cut: Path) -> None:
    for name in ("val", "test"):
        shutil.rmtree(cut / name)
    with pytest.raises(DataError, match="no folder 'test' or 'val'"):
        read_folder(cut)


def test_a_class_without_training_images_is_refused_where_it_is_trained_on(cut: Path) -> None:
    class_folder(cut / "test" / "c", 1)
    with pytest.raises(DataError, match="class 'c' of 'cut' has no training images"):
        make_splits(read_folder(cut), "few-shot", 1, seed=1)


def test_folder_names_that_are_not_utf8_are_a_sentence(flat: Path) -> None:
    (flat / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(DataError, match=r"'caf\\xe9' in .* has a name that is not UTF-8; rename it"):
        read_folder(flat)


def test_the_current_folder_is_split_like_any_other(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {path.relative_to(flat): part for path, part in parts(read_folder(flat)).items()}
    monkeypatch.chdir(flat)
    assert parts(read_folder(Path())) == expected

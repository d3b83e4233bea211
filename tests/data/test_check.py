"""`vlmadapt data check` on own images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.data.pictures import class_folder
from tests.data.test_near_duplicates import photograph
from tests.world import World
from vlmadapt.cli.main import main
from vlmadapt.data.check import ClassCount, check_data


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("test", 2)):
        for name, more in (("01", 0), ("02", 4)):
            class_folder(root / split / name, count + more)
            for file in (root / split / name).iterdir():
                file.write_bytes(file.read_bytes() + f"{split}/{name}/{file.name}".encode())
    return root


def test_counts_of_each_class_with_its_folder(pets: Path) -> None:
    (pets / "classes.txt").write_text("cat\ndog\n")
    report = check_data(str(pets))
    assert report.classes == (ClassCount("cat", "01", 3, 0, 2), ClassCount("dog", "02", 7, 0, 6))
    assert (report.found["train"], report.complete, report.copies) == (10, True, ())


def test_broken_missing_and_equal_files_are_listed(pets: Path) -> None:
    shutil.copy(pets / "train" / "01" / "00.png", pets / "test" / "01" / "copy.png")
    (pets / "train" / "02" / "03.png").write_bytes(b"broken")
    (pets / "train" / "02" / "04.png").write_bytes(b"")
    report = check_data(str(pets))
    assert report.copies == ((pets / "train" / "01" / "00.png", pets / "test" / "01" / "copy.png"),)
    assert list(report.broken) == [pets / "train" / "02" / "03.png"]
    assert "cannot be read (UnidentifiedImageError" in report.broken[pets / "train" / "02" / "03.png"]
    assert report.missing == (pets / "train" / "02" / "04.png",)
    assert not report.complete


def test_the_command_prints_all_of_it_and_fails(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pets / "classes.txt").write_text("cat\ndog [bold]\n")
    shutil.copy(pets / "train" / "01" / "00.png", pets / "train" / "02" / "copy.png")
    (pets / "train" / "02" / "03.png").write_bytes(b"broken")
    (pets / "train" / "02" / "raw.cr2").touch()
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(pets)])
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert told.err == f"vlmadapt: data set '{pets}' is not complete: 1 image cannot be read.\n"
    for line in (
        "smallest class: 'cat' with 5 images",
        "largest class: 'dog [bold]' with 14 images",
        "class 'dog [bold]': folder '02'",
        f"broken: image '{pets / 'train' / '02' / '03.png'}' cannot be read",
        f"equal files in 2 classes (cat, dog [bold]): {pets}/train/01/00.png, {pets}/train/02/copy.png",
        "note: not read in the class folders of 'pets': 1 .cr2.",
    ):
        assert line in told.out
    with pytest.raises(SystemExit):
        main(["data", "check", str(pets), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["classes"][0] == {"name": "cat", "folder": "01", "train": 3, "val": 0, "test": 2}
    assert list(content["broken"]) == [str(pets / "train" / "02" / "03.png")]
    assert len(content["copies"][0]) == 2


def test_duplicates_sizes_and_labels_are_reported_and_shown_on_a_page(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "wild"
    for seed in range(12):
        kind = ("cat", "dog")[seed % 2]
        (root / kind).mkdir(parents=True, exist_ok=True)
        photograph(seed).save(root / kind / f"{seed:02}.jpg")
    photograph(0).resize((200, 160)).save(root / "dog" / "again.png")
    photograph(1).resize((20, 16)).save(root / "dog" / "small.png")
    shutil.copy(root / "dog" / "03.jpg", root / "dog" / "copy.jpg")
    page = tmp_path / "check.html"
    main(["data", "check", str(root), "--backbone", str(world.clip), "--html", str(page), "--json"])
    content = json.loads(capsys.readouterr().out)
    files = [[Path(path).name for path in group["paths"]] for group in content["duplicates"]]
    assert sorted(map(sorted, files)) == [["00.jpg", "again.png"], ["03.jpg", "copy.jpg"]]
    across = next(group for group in content["duplicates"] if not group["exact"])
    assert (across["classes"], across["conflict"]) == (["cat", "dog"], True)
    assert content["tiny"] == {str(root / "dog" / "small.png"): [20, 16]}
    assert content["imbalance"] == 9 / 6
    assert content["labels"]["images"] == 15
    html = page.read_text()
    for text in ("look the same; cat and dog", "20 x 16 pixels", "dog/again.png", "The same image in two classes"):
        assert text in html
    assert html.count("<img") >= 5
    assert "http" not in html


def test_nested_folders_are_checked(tmp_path: Path) -> None:
    for name in ("a/b", "a/c"):
        class_folder(tmp_path / "deep" / name, 2)
    assert [c.name for c in check_data(str(tmp_path / "deep"), recursive=True).classes] == ["a/b", "a/c"]

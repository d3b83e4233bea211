"""`vlmadapt data`: present and missing parts, and downloads, with downloaders that need no network."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torchvision
from torchvision.datasets import utils

from tests.benchmarks_data.layouts import LAYOUTS, SPLIT_FILES, folders, write_split
from vlmadapt.cli.main import main
from vlmadapt.data.check import check_data
from vlmadapt.data.load import load_data
from vlmadapt.data.manage import list_data, prepare_data
from vlmadapt.errors import DataError
from vlmadapt_benchmarks import fetch


class FakeDTD:
    """Unpacks what torchvision's DTD does, where it does."""

    calls = 0

    def __init__(self, root: Path, download: bool) -> None:
        assert download
        type(self).calls += 1
        folders(Path(root) / "dtd" / "dtd" / "images", ("banded", "zigzagged"))
        (Path(root) / "dtd" / "dtd-r1.0.1.tar.gz").touch()


class Interrupted:
    """Stops when half is unpacked, and keeps the archive."""

    def __init__(self, root: Path, download: bool) -> None:
        folders(Path(root) / "dtd" / "dtd" / "images", ("banded",), 1)
        (Path(root) / "dtd" / "dtd-r1.0.1.tar.gz").touch()
        raise URLError("no route to host")


class Resumed(FakeDTD):
    """Sees the archive of the try before, and nothing else of it."""

    def __init__(self, root: Path, download: bool) -> None:
        left = [path.name for path in Path(root).rglob("*") if path.is_file()]
        assert left == ["dtd-r1.0.1.tar.gz"]
        super().__init__(root, download)


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A stand-in for Google Drive with split files, which records requests."""
    asked: list[tuple[str, str]] = []

    def download(identifier: str, folder: str, file: str) -> None:
        asked.append((identifier, file))
        write_split(Path(folder) / file, [("banded/00.jpg", 0, "banded")], [], [("zigzagged/00.jpg", 1, "zigzagged")])

    monkeypatch.setattr(utils, "download_file_from_google_drive", download)
    return asked


@pytest.fixture
def fake_dtd(monkeypatch: pytest.MonkeyPatch) -> type[FakeDTD]:
    monkeypatch.setattr(torchvision.datasets, "DTD", FakeDTD)
    monkeypatch.setattr(FakeDTD, "calls", 0)
    return FakeDTD


def states(name: str, root: Path, **options: Any) -> list[str]:
    return [step.state for step in prepare_data(name, root, **options)]


def test_prepare_brings_the_layout_and_leaves_what_is_there(
    tmp_path: Path, fake_dtd: type[FakeDTD], drive: list[tuple[str, str]]
) -> None:
    assert states("dtd", tmp_path, dry_run=True) == ["missing", "missing"]
    assert not list(tmp_path.iterdir())
    assert states("dtd", tmp_path) == ["downloaded", "downloaded"]
    assert drive == [("1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", "split_zhou_DescribableTextures.json")]
    assert sorted(p.name for p in (tmp_path / "dtd").iterdir()) == ["images", "split_zhou_DescribableTextures.json"]
    assert load_data("dtd", root=tmp_path).classes == ("banded", "zigzagged")
    assert states("dtd", tmp_path) == ["present", "present"]
    assert fake_dtd.calls == len(drive) == 1


def test_what_fails_stops_nothing_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drive: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(torchvision.datasets, "DTD", Interrupted)
    assert states("dtd", tmp_path) == ["failed: URLError: <urlopen error no route to host>", "downloaded"]
    assert not (tmp_path / "dtd" / "images").exists()


def test_an_archive_is_kept_and_what_was_half_unpacked_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dtd").mkdir()
    (tmp_path / SPLIT_FILES["dtd"]).touch()
    monkeypatch.setattr(torchvision.datasets, "DTD", Interrupted)
    assert states("dtd", tmp_path)[0].startswith("failed")
    monkeypatch.setattr(torchvision.datasets, "DTD", Resumed)
    assert states("dtd", tmp_path) == ["downloaded", "present"]
    assert len(list((tmp_path / "dtd" / "images" / "banded").iterdir())) == 10


def test_an_archive_on_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, file: Path) -> None:
        folders(tmp_path / "source" / "imagenet-a", ("n01443537",), 1)
        with tarfile.open(file, "w") as tar:
            tar.add(tmp_path / "source" / "imagenet-a", "imagenet-a")

    monkeypatch.setattr(fetch, "download", download)
    assert "has the SHA-256" in states("imagenet_a", tmp_path)[0]
    monkeypatch.setattr(fetch, "check_sha256", lambda file, expected, url: None)
    assert states("imagenet_a", tmp_path) == ["downloaded"]
    assert load_data("imagenet_a", root=tmp_path).classes == ("goldfish",)
    assert not (tmp_path / "imagenet-adversarial" / ".download").exists()


def test_half_an_archive_is_kept_and_a_bad_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = tmp_path / "imagenet-adversarial" / ".download"

    def broken(url: str, file: Path) -> None:
        with file.open("a") as out:
            out.write("half")
        raise DataError("broke off")

    monkeypatch.setattr(fetch, "download", broken)
    assert states("imagenet_a", tmp_path) == states("imagenet_a", tmp_path) == ["failed: broke off"]
    assert (staging / "archive.part").read_text() == "halfhalf"
    monkeypatch.setattr(fetch, "download", lambda url, file: None)
    assert states("imagenet_a", tmp_path)[0].startswith("failed: ")
    assert not list(staging.iterdir())


def test_an_archive_with_other_content_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", lambda url, file: tarfile.open(file, "w").close())
    monkeypatch.setattr(fetch, "check_sha256", lambda file, expected, url: None)
    (state,) = states("imagenet_r", tmp_path)
    assert state.startswith("failed: 'imagenet-r' was not in the download")


def test_what_only_a_person_can_do(tmp_path: Path, drive: list[tuple[str, str]]) -> None:
    assert states("imagenet", tmp_path) == ["manual"]
    assert states("stanford_cars", tmp_path) == ["manual", "downloaded"]


def test_google_drive_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(identifier: str, folder: str, file: str) -> None:
        raise RuntimeError("To download files from GDrive, 'gdown' is required.")

    monkeypatch.setattr(utils, "download_file_from_google_drive", download)
    (tmp_path / "dtd" / "images").mkdir(parents=True)
    assert states("dtd", tmp_path)[1] == (
        "failed: Google Drive needs the package 'gdown': pip install 'vlmadapt[benchmarks]'."
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_steps_are_done_where_the_layout_is_there(name: str, root: Path) -> None:
    steps = prepare_data(name, root, dry_run=True)
    assert {step.state for step in steps} == {"present"}
    assert all(path.is_relative_to(root) for step in steps for path in step.paths)


def test_check_counts_and_names_missing_files(tmp_path: Path) -> None:
    LAYOUTS["dtd"](tmp_path)
    report = check_data("dtd", tmp_path)
    assert report.expected == {"classes": 47, "train": 2820, "val": 1128, "test": 1692}
    assert report.found == {"classes": 2, "train": 10, "val": 4, "test": 6}
    assert report.missing == ()
    assert not report.complete
    gone, empty = (tmp_path / "dtd" / "images" / "banded" / name for name in ("03.jpg", "07.jpg"))
    gone.unlink()
    empty.write_bytes(b"")
    assert set(check_data("dtd", tmp_path).missing) == {gone, empty}


def test_check_of_the_users_own_folder(tmp_path: Path) -> None:
    folders(tmp_path, ("cat", "dog"))
    report = check_data(str(tmp_path))
    assert (report.found["classes"], report.expected, report.complete) == (2, {}, True)


def test_parts_say_whether_their_checksum_is_known(tmp_path: Path) -> None:
    (sketch,) = prepare_data("imagenet_sketch", tmp_path, dry_run=True)
    (variant,) = prepare_data("imagenet_a", tmp_path, dry_run=True)
    assert sketch.how.endswith("no checksum is published")
    assert variant.how.endswith("SHA-256 checked")


def test_list(tmp_path: Path) -> None:
    LAYOUTS["dtd"](tmp_path)
    LAYOUTS["eurosat"](tmp_path)
    shutil.rmtree(tmp_path / "eurosat" / "2750")
    cards = {card.name: card for card in list_data(tmp_path)}
    found = {name: cards[name].state for name in ("dtd", "eurosat", "food101", "openmoji")}
    assert found == {"dtd": "present", "eurosat": "incomplete", "food101": "missing", "openmoji": "included"}
    assert cards["sun397"].expected == {"classes": 397, "train": 15880, "val": 3970, "test": 19850}


def test_list_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLMADAPT_DATA", raising=False)
    assert {card.state for card in list_data() if card.name in LAYOUTS} == {"no data root"}


def test_command_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "list", "--data_root", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "1,281,167" in shown
    assert "missing" in shown


def test_command_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAYOUTS["dtd"](tmp_path)
    (tmp_path / SPLIT_FILES["dtd"]).unlink()
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", "dtd", "--data_root", str(tmp_path)])
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert "2,820" in told.out
    assert "differs" in told.out
    assert "note: " in told.out
    assert told.err == "vlmadapt: data set 'dtd' is not complete: its counts differ from the published ones.\n"


def test_command_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "prepare", "ucf101", "--data_root", str(tmp_path), "--dry_run", "--json"])
    steps = json.loads(capsys.readouterr().out)
    assert [step["state"] for step in steps] == ["missing", "missing"]
    assert "drive.google.com" in steps[0]["how"]
    with pytest.raises(SystemExit):
        main(["data", "prepare", "imagenet", "--data_root", str(tmp_path)])
    told = capsys.readouterr()
    assert "https://image-net.org" in told.out
    assert "1 of its 1 parts are missing" in told.err


def test_command_without_or_with_a_wrong_action(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data"])
    assert "prepare" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "chek"])
    assert "Did you mean 'check'?" in capsys.readouterr().err

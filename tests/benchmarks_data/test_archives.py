"""Archives of strangers write nothing outside their folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from vlmadapt.plugin import DataError
from vlmadapt_benchmarks.archives import safe_tars, unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    found.size = 4 if kind == tarfile.REGTYPE else 0
    return found


def tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for found in members:
            archive.addfile(found, io.BytesIO(b"text"))
    return path


HOSTILE = [
    [member("../outside")],
    [member("a/../../outside")],
    [member("/tmp/vlmadapt-outside")],
    [member("link", tarfile.SYMTYPE, ".."), member("link/outside")],
    [member("link", tarfile.SYMTYPE, "/tmp")],
    [member("hard", tarfile.LNKTYPE, "../outside")],
    [member("null", tarfile.CHRTYPE)],
    [member("pipe", tarfile.FIFOTYPE)],
]


@pytest.mark.parametrize("old_python", [False, True])
@pytest.mark.parametrize("members", HOSTILE, ids=lambda members: members[0].name)
def test_unsafe_tars_are_refused(
    tmp_path: Path, members: list[tarfile.TarInfo], old_python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old_python:
        monkeypatch.delattr(tarfile, "data_filter")
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"'a\.tar\.gz' (is not|cannot be) unpacked"):
        unpack(tar(tmp_path / "a.tar.gz", *members), folder)
    assert not [path for path in tmp_path.rglob("*") if path.name == "outside"]
    assert not Path("/tmp/vlmadapt-outside").exists()
    assert not [path for path in folder.rglob("*") if not path.is_dir() and not path.is_symlink()]


@pytest.mark.parametrize("old_python", [False, True])
def test_ordinary_tars_are_unpacked(tmp_path: Path, old_python: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old_python:
        monkeypatch.delattr(tarfile, "data_filter")
    unpack(tar(tmp_path / "a.tar.gz", member("a", tarfile.DIRTYPE), member("a/b.txt")), tmp_path)
    assert (tmp_path / "a" / "b.txt").read_text() == "text"


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "..\\outside", "C:/outside"])
def test_unsafe_zips_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "text")
    with pytest.raises(DataError, match="would be written outside its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert not list(tmp_path.rglob("outside"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(DataError, match="'link' is a link"):
        unpack(tmp_path / "a.zip", tmp_path)


def test_ordinary_zips_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b.txt", "text")
    unpack(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "a" / "b.txt").read_text() == "text"


def test_other_and_damaged_files_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"text")
    with pytest.raises(DataError, match="neither a zip nor a tar archive"):
        unpack(tmp_path / "a.zip", tmp_path)
    whole = tar(tmp_path / "a.tar.gz", *(member(f"{i}.txt") for i in range(2000))).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path)


def test_other_libraries_refuse_unsafe_tars_too(tmp_path: Path) -> None:
    hostile = tar(tmp_path / "a.tar.gz", member("../outside"))
    with safe_tars(), tarfile.open(hostile) as archive, pytest.raises(tarfile.TarError):
        archive.extractall(tmp_path / "folder")
    assert tarfile.TarFile.extraction_filter is None

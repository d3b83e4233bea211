"""Downloads of a benchmark's parts: torchvision's downloaders, archives, Google Drive, or instructions for a person.

Everything is unpacked in a folder `.download` next to its target and moved when it is complete. After a failure,
archives with a checksum and parts of archives that a download can continue are kept there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlmadapt.plugin import DataError, Step
from vlmadapt_benchmarks.archives import safe_tars, unpack
from vlmadapt_benchmarks.http import check_sha256, default_timeout, download, version_file

ARCHIVES = (".zip", ".tar", ".gz", ".tgz")
PART = "archive.part"
UNCHECKED = "no checksum is published"


@dataclass(frozen=True)
class Download:
    """A part of a data set.

    Attributes:
        makes: files and folders in the data set's folder, and the name of each at its source.
        how: source, one sentence.
        get: function that fills an empty folder (apart from archives of an earlier try) and returns the folder of the
            parts; None if a person has to do it.
    """

    makes: Mapping[str, str]
    how: str
    get: Callable[[Path], Path] | None = None


def torchvision(dataset: str, inner: str, *makes: str) -> Download:
    """Parts that torchvision's data set of that name downloads into `inner`, with MD5 checksums."""
    how = f"torchvision downloads {dataset}"
    return Download({name: name for name in makes}, how, partial(_vision, dataset, inner))


def archive(url: str, inner: str, *makes: str, sha256: str = "") -> Download:
    """Parts of an archive on the web, which lie in its folder `inner`.

    Args:
        url: address of the archive.
        inner: folder in the archive.
        makes: parts in that folder.
        sha256: published SHA-256 of the archive; empty where there is none.
    """
    how = f"download of {url}, {'SHA-256 checked' if sha256 else UNCHECKED}"
    return Download({name: name for name in makes}, how, partial(_archive, url, inner, sha256))


def drive(identifier: str, file: str) -> Download:
    """One of CoOp's files on Google Drive."""
    how = f"Google Drive, https://drive.google.com/file/d/{identifier}/view, {UNCHECKED}"
    return Download({file: file}, how, partial(_drive, identifier, file))


def drive_archive(identifier: str, makes: Mapping[str, str]) -> Download:
    """Parts of an archive on Google Drive."""
    how = f"Google Drive, https://drive.google.com/file/d/{identifier}/view, unpacked, {UNCHECKED}"
    return Download(makes, how, partial(_drive_archive, identifier))


def manual(how: str, *makes: str) -> Download:
    """Parts that only a person can obtain."""
    return Download({name: name for name in makes}, how)


def steps(folder: Path, downloads: Sequence[Download]) -> list[Step]:
    """The downloads as steps for a data set's folder."""
    return [
        Step(tuple(folder / name for name in d.makes), d.how, partial(_install, folder, d) if d.get else None)
        for d in downloads
    ]


def _install(folder: Path, download: Download) -> None:
    staging = folder / ".download"
    staging.mkdir(parents=True, exist_ok=True)
    _keep_archives(staging)
    assert download.get is not None
    found = download.get(staging)
    for name, source in download.makes.items():
        if not (found / source).exists():
            raise DataError(f"'{source}' was not in the download; it is in '{staging}', move its parts yourself.")
        if not (folder / name).exists():
            (found / source).rename(folder / name)
    shutil.rmtree(staging)


def _keep_archives(folder: Path) -> None:
    """Remove what an interrupted try unpacked: torchvision takes an existing folder for a complete one."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix not in ARCHIVES and path.name not in (PART, version_file(path.with_name(PART)).name):
            path.unlink()


def _vision(dataset: str, inner: str, staging: Path) -> Path:
    from torchvision import datasets

    with default_timeout(), safe_tars():
        getattr(datasets, dataset)(staging, download=True)
    return staging / inner


def _archive(url: str, inner: str, sha256: str, staging: Path) -> Path:
    download(url, staging / PART)
    if sha256:
        check_sha256(staging / PART, sha256, url)
    version_file(staging / PART).unlink(missing_ok=True)
    return _unpack(staging / PART, staging / url.rpartition("/")[2]) / inner


def _drive(identifier: str, file: str, staging: Path) -> Path:
    from torchvision.datasets.utils import download_file_from_google_drive

    try:
        download_file_from_google_drive(identifier, str(staging), file)
    except (ModuleNotFoundError, RuntimeError) as error:
        if "gdown" not in str(error):
            raise
        raise DataError("Google Drive needs the package 'gdown': pip install 'vlmadapt[benchmarks]'.") from error
    return staging


def _drive_archive(identifier: str, staging: Path) -> Path:
    _drive(identifier, "drive.part", staging)
    return _unpack(staging / "drive.part", staging / "archive.zip")


def _unpack(part: Path, archive: Path) -> Path:
    part.rename(archive)
    try:
        unpack(archive, archive.parent)
    finally:
        archive.unlink()  # an archive that cannot be unpacked must not be used again
    return archive.parent

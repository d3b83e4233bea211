"""Bringing a benchmark's parts into its folder: torchvision's downloaders, archives, Google Drive, or by hand.

Everything is unpacked in a folder `.download` beside its place and moved when it is complete. When something goes
wrong, archives with a checksum and parts of archives that can be gone on with are kept there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlmadapt.plugin import DataError, Step
from vlmadapt_benchmarks.http import download

ARCHIVES = (".zip", ".tar", ".gz", ".tgz")
PART = "archive.part"


@dataclass(frozen=True)
class Download:
    """A part of a data set.

    Attributes:
        makes: files and folders in the data set's folder, and what each is called where it comes from.
        how: where it comes from, one sentence.
        get: fills an empty folder (archives of an earlier try apart) and returns where in it the parts are; None where
            a person has to do it.
    """

    makes: Mapping[str, str]
    how: str
    get: Callable[[Path], Path] | None = None


def torchvision(dataset: str, inner: str, *makes: str) -> Download:
    """Parts that torchvision's data set of that name downloads into `inner`, with its checksums."""
    how = f"torchvision downloads {dataset}"
    return Download({name: name for name in makes}, how, partial(_vision, dataset, inner))


def archive(url: str, inner: str, *makes: str) -> Download:
    """Parts of an archive on the web, which unpacks them into `inner`."""
    return Download({name: name for name in makes}, f"download of {url}", partial(_archive, url, inner))


def drive(identifier: str, file: str) -> Download:
    """One of CoOp's files on Google Drive."""
    how = f"Google Drive, https://drive.google.com/file/d/{identifier}/view"
    return Download({file: file}, how, partial(_drive, identifier, file))


def drive_archive(identifier: str, makes: Mapping[str, str]) -> Download:
    """Parts of an archive on Google Drive."""
    how = f"Google Drive, https://drive.google.com/file/d/{identifier}/view, unpacked"
    return Download(makes, how, partial(_drive_archive, identifier))


def by_hand(how: str, *makes: str) -> Download:
    """Parts that only a person can get."""
    return Download({name: name for name in makes}, how)


def steps(folder: Path, downloads: Sequence[Download]) -> list[Step]:
    """The downloads as steps for a data set's folder."""
    return [
        Step(tuple(folder / name for name in d.makes), d.how, partial(_bring, folder, d) if d.get else None)
        for d in downloads
    ]


def _bring(folder: Path, download: Download) -> None:
    staging = folder / ".download"
    staging.mkdir(parents=True, exist_ok=True)
    _keep_archives(staging)
    assert download.get is not None
    found = download.get(staging)
    for name, source in download.makes.items():
        if not (found / source).exists():
            raise DataError(f"'{source}' was not in what was downloaded; it is in '{staging}', move it by hand.")
        if not (folder / name).exists():
            (found / source).rename(folder / name)
    shutil.rmtree(staging)


def _keep_archives(folder: Path) -> None:
    """Remove what an interrupted try unpacked: torchvision takes a folder that is there for complete."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix not in ARCHIVES and path.name != PART:
            path.unlink()


def _vision(dataset: str, inner: str, staging: Path) -> Path:
    from torchvision import datasets

    getattr(datasets, dataset)(staging, download=True)
    return staging / inner


def _archive(url: str, inner: str, staging: Path) -> Path:
    download(url, staging / PART)
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
    from torchvision.datasets.utils import extract_archive

    part.rename(archive)
    try:
        extract_archive(str(archive), str(archive.parent))
    finally:
        archive.unlink()  # where it cannot be unpacked it must not be taken for a good one again
    return archive.parent

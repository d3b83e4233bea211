"""Unpack archives without writing outside the target folder."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from vlmadapt.plugin import DataError


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive.

    Raises:
        DataError: it is neither, it is damaged, or a member would be written outside the folder or is a device.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        elif tarfile.is_tarfile(archive):
            _untar(archive, folder)
        else:
            raise DataError(f"'{archive.name}' is neither a zip nor a tar archive.")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"'{archive.name}' cannot be unpacked ({type(error).__name__}: {error}).") from error


@contextmanager
def safe_tars() -> Iterator[None]:
    """Let `extractall` of other libraries refuse members outside their folder too, where this Python can (3.11.4)."""
    if not hasattr(tarfile, "data_filter"):
        yield
        return
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _check_name(archive, member.name)
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
            return
        for member in tar.getmembers():
            if not (member.isfile() or member.isdir()):
                raise DataError(f"'{archive.name}' is not unpacked: '{member.name}' is a link or a device.")
        tar.extractall(folder)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"'{archive.name}' is not unpacked: '{member.filename}' is a link.")
        content.extractall(folder)


def _check_name(archive: Path, name: str) -> None:
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise DataError(f"'{archive.name}' is not unpacked: '{name}' would be written outside its folder.")

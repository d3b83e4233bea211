"""Downloads that continue after an interruption."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from vlmadapt.plugin import DataError

TIMEOUT = 60
"""Seconds without an answer after which a download is given up."""
SAY_EVERY = 30.0
"""Seconds between two lines of progress in a log file."""


def download(url: str, file: Path) -> None:
    """Fetch a file, or the rest of it.

    The server's ETag or date is kept in a file next to the part. The rest is requested on condition that it is still
    the same (`If-Range`); where it is not, or the server gave neither, the whole file is fetched again.

    Args:
        url: source.
        file: target; a part from an earlier try is completed.

    Raises:
        DataError: the connection broke or timed out; the part is kept.
        OSError: the server did not answer.
    """
    version = version_file(file)
    have = file.stat().st_size if file.exists() and version.exists() else 0
    condition = {"Range": f"bytes={have}-", "If-Range": version.read_text(encoding="utf-8")} if have else {}
    try:
        response = urlopen(Request(url, headers=condition), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is left to fetch
        raise
    broke_off = f"the download of {url} broke off; the same command continues it."
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0
            _keep_version(response.headers, version)
        rest = int(response.headers.get("Content-Length") or 0)
        try:
            _save(response, file, url.rpartition("/")[2], rest, append=have > 0)
        except (TimeoutError, ConnectionError) as error:
            raise DataError(broke_off) from error
    if rest and file.stat().st_size < have + rest:
        raise DataError(broke_off)


@contextmanager
def default_timeout() -> Iterator[None]:
    """Give downloads of other libraries that set no timeout the one used here."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def version_file(file: Path) -> Path:
    """File with the ETag or date that a partial download belongs to."""
    return file.with_name(f"{file.name}.version")


def check_sha256(file: Path, expected: str, url: str) -> None:
    """Compare a download with its published SHA-256; one that differs is removed.

    Raises:
        DataError: it differs.
    """
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected:
        file.unlink()
        version_file(file).unlink(missing_ok=True)
        raise DataError(f"the download of {url} has the SHA-256 {found}, published is {expected}; it was removed.")


def _keep_version(headers: Any, version: Path) -> None:
    tag = headers.get("ETag") or ""
    found = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")  # a weak tag is no condition
    if found:
        version.write_text(found, encoding="utf-8")
    else:
        version.unlink(missing_ok=True)


def _save(response: Any, file: Path, name: str, size: int, *, append: bool) -> None:
    from rich.console import Console
    from rich.progress import wrap_file

    console = Console(stderr=True)
    with file.open("ab" if append else "wb") as out:
        if console.is_terminal:
            with wrap_file(response, size, description=name, console=console) as source:
                shutil.copyfileobj(source, out)
        else:
            shutil.copyfileobj(_Said(response, name, size), out)


class _Said:
    """A response that prints what was read of it now and then: progress for a log file."""

    def __init__(self, response: Any, name: str, size: int):
        self._response, self._name = response, name
        self._whole = f" of {size / 2**20:,.0f}" if size else ""
        self._read, self._said = 0, time.monotonic()

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; -1 reads all of it."""
        content: bytes = self._response.read(size)
        self._read += len(content)
        if time.monotonic() - self._said > SAY_EVERY:
            self._said = time.monotonic()
            print(f"{self._name}: {self._read / 2**20:,.0f}{self._whole} MiB", file=sys.stderr, flush=True)
        return content

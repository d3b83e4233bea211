"""Exclusive ownership of a folder: one process works in it at a time."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN, EDEADLK
from pathlib import Path
from typing import TextIO

from vlmadapt.errors import VlmadaptError
from vlmadapt.files import sweep_temporaries

LOCK = ".lock"
TAKEN = (EACCES, EAGAIN, EDEADLK)
"""Error numbers for a lock held by another process; any other means that the file system has no locks."""

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: TextIO) -> None:
        file.seek(2**30)  # locked bytes cannot be read, so lock one after the content
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: TextIO) -> None:
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)  # closing alone would leave the lock with forked children that share the file


class Ownership:
    """A folder that this process owns.

    Args:
        path: lock file.
        file: the same, open and locked.
    """

    def __init__(self, path: Path, file: TextIO):
        self._path = path
        self._file = file

    def check(self) -> None:
        """See that the folder is still there and still owned, before something is written to it.

        Raises:
            VlmadaptError: it was deleted or moved, or another process has created it again.
        """
        try:
            owned = os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except OSError:
            owned = False
        if not owned:
            raise VlmadaptError(
                f"'{self._path.parent}' was deleted, moved or replaced while it was in use; stopped, nothing more is "
                "written there."
            )


@contextmanager
def exclusive(folder: Path) -> Iterator[Ownership]:
    """Own a folder for the duration of a `with` block; the folder is made if it does not exist.

    The operating system releases the lock when its process ends, however it ends, so the lock of a dead owner does not
    have to be removed; temporary files that it left are. On file systems without locks nothing is held.

    Raises:
        VlmadaptError: another process owns the folder, or the folder cannot be written to.
    """
    path = folder / LOCK
    with _locked(path) as file:
        with suppress(OSError):  # the owner's name only helps others
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
            file.flush()
        for part in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            sweep_temporaries(part)
        owner = Ownership(path, file)
        try:
            yield owner
        finally:
            with suppress(OSError, VlmadaptError):
                owner.check()
                _remove(path)
            with suppress(OSError):
                _unlock(file)


def _locked(path: Path) -> TextIO:
    """The open and locked lock file."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise VlmadaptError(f"'{path}' cannot be written: {error.strerror or error}.") from error
        try:
            _try_lock(file)
        except OSError as error:
            if error.errno in TAKEN:
                file.close()
                raise VlmadaptError(
                    f"'{path.parent}' is in use by {_owner(path)}; wait until it ends, or choose another folder with "
                    "--out."
                ) from error
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # the last owner removed the file between opening and locking it


def _remove(path: Path) -> None:
    """Remove the lock file, and its folder if nothing else was written there, as after a refused start."""
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _owner(path: Path) -> str:
    """The owner of a lock as it describes itself, for a message."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

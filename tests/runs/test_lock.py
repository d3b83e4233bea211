from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOTSUP
from pathlib import Path

import pytest

from vlmadapt.errors import VlmadaptError
from vlmadapt.runs import lock
from vlmadapt.runs.lock import LOCK, exclusive

HOLD = """
import sys, time
from pathlib import Path
from vlmadapt.runs.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def owner_of(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns a folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_has_one_owner_and_a_killed_owner_has_none(tmp_path: Path) -> None:
    with owner_of(tmp_path) as owner:
        with pytest.raises(VlmadaptError, match=f"is in use by process {owner.pid} on {platform.node()}; wait"):
            exclusive(tmp_path).__enter__()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        with exclusive(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_folder_is_made_and_can_be_owned_again_after_release(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "new" / "folder"), pytest.raises(VlmadaptError, match="in use by process"):
            exclusive(tmp_path / "new" / "folder").__enter__()


def test_an_owner_that_does_not_say_who_it_is_is_refused_all_the_same(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        (tmp_path / LOCK).write_text("damaged")
        with pytest.raises(VlmadaptError, match="in use by another process"):
            exclusive(tmp_path).__enter__()


def test_a_file_system_without_locks_does_not_stop_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(file: object) -> None:
        raise OSError(ENOTSUP, "not supported")

    monkeypatch.setattr(lock, "_try_lock", unsupported)
    with exclusive(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VlmadaptError, match="cannot be written"):
        exclusive(tmp_path / "file").__enter__()

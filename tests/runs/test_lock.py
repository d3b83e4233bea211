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


def test_a_folder_that_was_deleted_moved_or_created_again_is_no_longer_owned(tmp_path: Path) -> None:
    def in_use() -> None:
        (tmp_path / "run").rename(tmp_path / "moved")

    def created_again() -> None:
        in_use()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / LOCK).touch()

    for change in (in_use, created_again):
        with exclusive(tmp_path / "run") as owner:
            owner.check()
            change()
            with pytest.raises(VlmadaptError, match="run' was deleted, moved or replaced while it was in use; stopped"):
                owner.check()
        assert (tmp_path / "run" / LOCK).exists() == (change is created_again)  # another owner's lock is left alone
        (tmp_path / "moved" / LOCK).unlink()
        (tmp_path / "moved").rmdir()


def test_temporary_files_of_a_dead_owner_are_removed_and_nothing_else(tmp_path: Path) -> None:
    keep = [tmp_path / "a.tmp", tmp_path / ".hidden", tmp_path / "adapter" / "b.json", tmp_path / "x" / "y" / ".z.tmp"]
    sweep = [tmp_path / ".state.safetensors.1a.tmp", tmp_path / "adapter" / ".adapter_config.json.x.tmp"]
    for path in (*keep, *sweep):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with exclusive(tmp_path):
        assert all(path.exists() for path in keep)
        assert not any(path.exists() for path in sweep)


@pytest.mark.slow
def test_of_two_starts_in_one_folder_one_is_refused_every_time(tmp_path: Path) -> None:
    """100 of 100, started at the same moment."""
    code = (
        "import sys, time; from pathlib import Path; from vlmadapt.runs.lock import exclusive\n"
        "from vlmadapt.errors import VlmadaptError\n"
        "for i in range(100):\n"
        "    sys.stdin.readline()\n"
        "    try:\n"
        "        with exclusive(Path(sys.argv[1]) / str(i)):\n"
        "            print('taken', flush=True); sys.stdin.readline()\n"
        "    except VlmadaptError:\n"
        "        print('refused', flush=True); sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = []
    for _ in range(100):
        said = []
        for step in ("start", "end"):
            for process in both:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{step}\n")
                process.stdin.flush()
            if step == "start":
                said = sorted(process.stdout.readline().strip() for process in both if process.stdout)
        outcomes.append(said)
    for process in both:
        process.communicate()
    assert outcomes == [["refused", "taken"]] * 100

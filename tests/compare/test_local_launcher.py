from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vlmadapt.compare.job import Job, outcome
from vlmadapt.compare.launchers.local import run_all
from vlmadapt.errors import VlmadaptError


@dataclass(frozen=True)
class Script(Job):
    """A job that runs a few lines of Python instead of a worker."""

    code: str = ""

    @property
    def arguments(self) -> list[str]:
        return ["tests.compare.code", self.code]


def script(folder: Path, code: str) -> Script:
    folder.mkdir(parents=True, exist_ok=True)
    return Script(folder.name, (folder,), code)


def test_a_failing_job_says_why_and_stops_nothing(tmp_path: Path) -> None:
    bad = "import sys; print('working'); print('vlmadapt: no such thing.', file=sys.stderr); sys.exit(2)"
    crash = "import os; print('so far'); import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"
    jobs = [script(tmp_path / "bad", bad), script(tmp_path / "crash", crash), script(tmp_path / "good", "")]
    found: dict[str, str | None] = {}
    assert run_all(jobs, 2, lambda job, cause: found.update({job.title: outcome(job.folders[0], cause)}), {})
    assert found == {
        "bad": "no such thing.",
        "crash": "killed by signal 9: so far",
        "good": "ended without a result",
    }


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmadaptError, match="'local' has no option 'partition'"):
        run_all([], 1, lambda job, cause: None, {"partition": "gpu"})


def test_ctrl_c_lets_running_jobs_save_and_starts_no_more(tmp_path: Path) -> None:
    saving = (
        "import time, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "try: time.sleep(60)\n"
        f"except KeyboardInterrupt: pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
    )
    jobs = [script(tmp_path / "one", saving), script(tmp_path / "two", "")]

    def interrupt() -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    done: list[str] = []
    assert not run_all(jobs, 1, lambda job, cause: done.append(job.title), {})
    assert (tmp_path / "saved").exists() and not (tmp_path / "two" / "log.txt").exists() and done == []


def test_jobs_at_the_same_time_have_different_slots_and_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS']); time.sleep(0.5)"
    jobs = [script(tmp_path / str(i), show) for i in range(4)]
    assert run_all(jobs, 2, lambda job, cause: None, {})
    shown = [(job.folders[0] / "log.txt").read_text().split() for job in jobs]
    assert sorted(gpu for gpu, _ in shown) == ["3", "3", "5", "5"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert {threads for _, threads in shown} == {str(max(1, cores // 2))}


def test_what_fails_while_a_job_is_reported_kills_the_others(tmp_path: Path) -> None:
    jobs = [script(tmp_path / "quick", ""), script(tmp_path / "slow", "import time; time.sleep(60)")]

    def fail(job: Job, cause: str | None) -> None:
        raise RuntimeError("the disk is full")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the disk is full"):
        run_all(jobs, 2, fail, {})
    assert time.monotonic() - began < 30


PARENT = """
import sys
from dataclasses import dataclass
from pathlib import Path
from vlmadapt.compare.job import Job
from vlmadapt.compare.launchers.local import run_all

@dataclass(frozen=True)
class Sleeper(Job):
    @property
    def arguments(self):
        return ["sleeper", str(self.folders[0])]

folders = [Path(sys.argv[1]) / name for name in ("one", "two", "three")]
for folder in folders:
    folder.mkdir()
run_all([Sleeper(folder.name, (folder,)) for folder in folders], 2, print, {})
"""

SLEEPER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
helper = os.fork()
if helper:
    (folder / "pid").write_text(f"{os.getpid()} {helper}")
    if folder.name == "two":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    time.sleep(0.1)
"""
"""Started twice: `one` ends when asked, `two` does not; both have a child of their own."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_child_outlives_the_comparison_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env={**os.environ, "PYTHONPATH": search})
    wait_for(lambda: len(list(tmp_path.glob("*/pid"))) == 2, 120)
    children = [int(pid) for path in tmp_path.glob("*/pid") for pid in path.read_text().split()]
    try:
        parent.send_signal(number)
        if number is not signal.SIGKILL:  # `two` does not end when asked; the second request kills it
            time.sleep(1.5)
            parent.send_signal(number)
        parent.wait(20)
        wait_for(lambda: not any(alive(pid) for pid in children), 20)
        assert not (tmp_path / "three" / "log.txt").exists()
    finally:
        for pid in (pid for pid in [parent.pid, *children] if alive(pid)):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False

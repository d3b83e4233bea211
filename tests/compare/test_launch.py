from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from vlmadapt.compare.launch import Job, run_all
from vlmadapt.runs.settings import FitSettings


@dataclass(frozen=True)
class Script(Job):
    """A job that runs a few lines of Python instead of `fit`."""

    code: str = ""

    def command(self) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return [sys.executable, "-c", self.code]


def script(folder: Path, code: str) -> Script:
    return Script(folder.name, FitSettings("clip", out=str(folder)), code)


def test_a_failing_job_says_why_and_stops_nothing(tmp_path: Path) -> None:
    bad = "import sys; print('working'); print('vlmadapt: no such thing.', file=sys.stderr); sys.exit(2)"
    crash = "import os; print('so far'); import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"
    jobs = [script(tmp_path / "bad", bad), script(tmp_path / "crash", crash), script(tmp_path / "good", "")]
    found: dict[str, str | None] = {}
    assert run_all(jobs, 2, lambda job, error: found.update({job.title: error}))
    assert found == {"bad": "no such thing.", "crash": "killed by signal 9: so far", "good": None}


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
    assert not run_all(jobs, 1, lambda job, error: done.append(job.title))
    assert (tmp_path / "saved").exists() and not (tmp_path / "two").exists() and done == []

"""Slurm jobs without a cluster: submitit's debug and local executors, and stand-ins for Slurm's commands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compare.test_local_launcher import Script, script
from vlmadapt.compare.job import Job
from vlmadapt.compare.launchers import slurm
from vlmadapt.compare.launchers.slurm import Command, run_all
from vlmadapt.errors import VlmadaptError

submitit = pytest.importorskip("submitit")
STAND_INS = Path(__file__).parent / "slurm"
WRITES = "import pathlib, sys; pathlib.Path({path!r}).write_text('done')"
KILLED = "import os; os.kill(os.getpid(), 9)"


def jobs(folder: Path) -> list[Script]:
    made = [script(folder / name, "") for name in ("one", "two")]
    return [
        Script("one", made[0].folders, WRITES.format(path=str(folder / "one" / "out"))),
        Script("two", made[1].folders, KILLED),
    ]


@dataclass
class Seen:
    """Causes of the jobs that have ended."""

    causes: dict[str, str | None]

    def __call__(self, job: Job, cause: str | None) -> None:
        self.causes[job.title] = cause


@pytest.mark.processes
@pytest.mark.parametrize(
    "options", [{"cluster": "debug"}, {"cluster": "local", "timeout_min": 5}, {"cluster": "slurm", "timeout_min": 5}]
)
def test_jobs_are_run_and_a_killed_one_is_told(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{STAND_INS}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "POLL", 0.1)
    seen = Seen({})
    assert run_all(jobs(tmp_path), 2, seen, {**options, "folder": str(tmp_path / "submitit")})
    assert seen.causes == {"one": None, "two": "killed by signal 9"}
    assert (tmp_path / "one" / "out").read_text() == "done"


def test_a_preempted_job_lets_its_runs_save_and_is_queued_again(tmp_path: Path) -> None:
    saving = (
        "import pathlib, signal, sys, time\n"
        f"out = pathlib.Path({str(tmp_path / 'state')!r})\n"
        "try:\n    out.write_text('started'); time.sleep(60)\n"
        "except KeyboardInterrupt: out.write_text('saved')\n"
    )
    command = Command(script(tmp_path / "one", saving).command)
    command._process = process = slurm.subprocess.Popen(command._command)
    while not (tmp_path / "state").exists():
        assert process.poll() is None
    again = command.checkpoint()
    assert (tmp_path / "state").read_text() == "saved"
    assert again.function._command == command._command


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VlmadaptError, match=r"submitit cannot submit jobs: .*srun"):
        run_all(jobs(tmp_path), 1, Seen({}), {"folder": str(tmp_path / "s")})
    with pytest.raises(VlmadaptError, match=r"submitit cannot submit jobs: .*partitoin"):
        run_all(jobs(tmp_path), 1, Seen({}), {"cluster": "local", "partitoin": "gpu", "folder": str(tmp_path / "s")})

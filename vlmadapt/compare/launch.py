"""Runs of a comparison in processes of their own: one that fails takes no other down, memory is that of one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from vlmadapt.cores import usable_cores
from vlmadapt.files import write_text
from vlmadapt.runs.interrupt import stop_requests
from vlmadapt.runs.run import CONFIG
from vlmadapt.runs.settings import FitSettings

LOG, ASKED = "log.txt", "asked.yaml"
POLL = 0.1
"""Seconds between two looks at the running processes."""


@dataclass(frozen=True)
class Job:
    """A run to be started or resumed.

    Attributes:
        title: for people.
        settings: with `out`, the run folder.
    """

    title: str
    settings: FitSettings

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.settings.out or "run")

    def command(self) -> list[str]:
        """An ordinary `vlmadapt fit`, which goes on where there is something to go on with."""
        fit = [sys.executable, "-m", "vlmadapt", "fit"]
        if (self.folder / CONFIG).is_file():
            return [*fit, "--resume", str(self.folder)]
        asked = self.folder / ASKED
        write_text(asked, yaml.safe_dump(self.settings.to_config(), sort_keys=False))
        return [*fit, "--config", str(asked)]

    def error(self, code: int) -> str:
        """The line that says why it failed."""
        lines = [line.strip() for line in (self.folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
        said = [line.removeprefix("vlmadapt: ") for line in lines if line.startswith("vlmadapt: ")]
        last = said[-1] if said else lines[-1] if lines else f"exit code {code}"
        return f"killed by signal {-code}: {last}" if code < 0 else last


Running = tuple[Job, "subprocess.Popen[bytes]", int]
"""A job, its process, and its place among those that run at the same time."""


def run_all(jobs: Sequence[Job], at_once: int, done: Callable[[Job, str | None], None]) -> bool:
    """Run jobs, some of them at the same time.

    Args:
        jobs: in the order to be started.
        at_once: how many run at the same time.
        done: called with each finished job and its error, None where there is none.

    Returns:
        Whether all were run; False where a signal asked to stop. The runs in progress have then saved their state.
    """
    waiting = list(jobs)
    running: list[Running] = []
    with stop_requests() as asked:
        try:
            while (waiting and not asked) or running:
                while waiting and len(running) < at_once and not asked:
                    slot = min(set(range(at_once)) - {slot for _, _, slot in running})
                    running.append((waiting[0], _start(waiting.pop(0), slot, at_once), slot))
                if asked:
                    _stop(running)
                time.sleep(POLL)
                for ended in [it for it in running if it[1].poll() is not None]:
                    running.remove(ended)
                    job, process, _ = ended
                    if not asked:
                        done(job, job.error(process.returncode) if process.returncode else None)
        finally:
            _stop(running)
    return not asked


def _start(job: Job, slot: int, at_once: int) -> subprocess.Popen[bytes]:
    """Start a job with its share of the cores and, where there are several GPUs, on one of them."""
    command = job.command()
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // at_once)), **os.environ}
    gpus = _gpus()
    if at_once > 1 and len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with (job.folder / LOG).open("wb") as log:
        # A session of its own, so that Ctrl-C reaches it through us alone.
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]


def _stop(running: Sequence[Running]) -> None:
    """Ask each to save its state and end, and wait for it."""
    for _, process, _ in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for _, process, _ in running:
        process.wait()

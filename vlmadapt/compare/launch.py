"""Runs of a comparison, each in its own process: one that fails stops no other, and memory is that of one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
import yaml

from vlmadapt.compare.child import kill_group
from vlmadapt.cores import usable_cores
from vlmadapt.files import write_text
from vlmadapt.runs.interrupt import stop_requests
from vlmadapt.runs.run import CONFIG
from vlmadapt.runs.settings import FitSettings

LOG, REQUESTED = "log.txt", "requested.yaml"
RUN = (sys.executable, "-m", "vlmadapt.compare.child")
"""Command that runs a module and ends it when this process ends."""


@dataclass(frozen=True)
class Job:
    """A run to be started or resumed.

    Attributes:
        title: name of the run in messages.
        settings: settings of the run; `out` is its folder.
    """

    title: str
    settings: FitSettings

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.settings.out or "run")

    def command(self) -> list[str]:
        """`vlmadapt fit`, resumed if the run has been started before."""
        fit = [*RUN, "vlmadapt", "fit"]
        if (self.folder / CONFIG).is_file():
            return [*fit, "--resume", str(self.folder)]
        requested = self.folder / REQUESTED
        write_text(requested, yaml.safe_dump(self.settings.to_config(), sort_keys=False))
        return [*fit, "--config", str(requested)]

    def error(self, code: int) -> str:
        """The line of the log that explains exit code `code`."""
        lines = [line.strip() for line in (self.folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
        said = [line.removeprefix("vlmadapt: ") for line in lines if line.startswith("vlmadapt: ")]
        last = said[-1] if said else lines[-1] if lines else f"exit code {code}"
        return f"killed by signal {-code}: {last}" if code < 0 else last


def run_all(jobs: Sequence[Job], at_once: int, done: Callable[[Job, str | None], None]) -> bool:
    """Run jobs, some of them at the same time.

    Args:
        jobs: jobs in the order to be started.
        at_once: number of jobs that run at the same time.
        done: called in this thread with each finished job and its error, None if it succeeded.

    Returns:
        Whether all were run; False if a signal asked to stop. The runs in progress have then saved their state.

    Raises:
        KeyboardInterrupt: a second signal; the runs in progress are killed.
    """
    processes = _Processes(at_once)
    with stop_requests(processes.stop) as asked, ThreadPoolExecutor(at_once) as pool:
        try:
            futures = {pool.submit(processes.run, job): job for job in jobs}
            for future in as_completed(futures):
                error = future.result()
                if not asked:
                    done(futures[future], error)
        except BaseException:
            processes.stop()
            processes.kill()
            raise
    return not asked


class _Processes:
    """Processes of the jobs that are running; each worker thread waits for one."""

    def __init__(self, at_once: int):
        self._at_once = at_once
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(at_once):
            self._slots.put(slot)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, job: Job) -> str | None:
        """Run a job and return its error; return at once after `stop`."""
        slot = self._slots.get()
        try:
            process = self._start(job, slot)
            if process is None:
                return None
            code = process.wait()
            kill_group(process.pid)  # what it started and did not end
            self._running.discard(process)
            return job.error(code) if code else None
        finally:
            self._slots.put(slot)

    def stop(self) -> None:
        """Start no more, and ask the running ones to save their state and end."""
        # The lock is held only while a process starts, so that none starts unseen after this.
        with self._lock:
            self._stopped = True
        for process in list(self._running):
            process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the running ones."""
        for process in list(self._running):
            kill_group(process.pid)

    def _start(self, job: Job, slot: int) -> subprocess.Popen[bytes] | None:
        """Start a job with its share of the cores and, if there are several GPUs, on one of them."""
        with self._lock:
            if self._stopped:
                return None
            command = job.command()
            with (job.folder / LOG).open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # never written to; see `vlmadapt.compare.child`
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(slot, self._at_once),
                    start_new_session=True,  # Ctrl-C reaches it through `stop` alone
                )
            self._running.add(process)
            return process


def _environment(slot: int, at_once: int) -> dict[str, str]:
    """Environment variables of the process in a slot."""
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // at_once)), **os.environ}
    gpus = _gpus()
    if at_once > 1 and len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]

"""Jobs as processes of this machine: one that fails stops no other, and cores and GPUs are shared out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any

import torch

from vlmadapt.compare.job import LOG, Ended, Job
from vlmadapt.compare.launchers.child import kill_group
from vlmadapt.cores import usable_cores
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.interrupt import stop_requests

CHILD = (sys.executable, "-m", "vlmadapt.compare.launchers.child")
"""Command that runs a module and ends it when this process ends."""


def run_all(jobs: Sequence[Job], at_once: int, ended: Ended, options: Mapping[str, Any]) -> bool:
    """Run jobs as processes of this machine, see `vlmadapt.compare.job.Launcher`; it has no options.

    When a signal asks to stop, the runs in progress save their state.

    Raises:
        VlmadaptError: options are given.
        KeyboardInterrupt: a second signal; the runs in progress are killed.
    """
    if options:
        raise VlmadaptError(f"the launcher 'local' has no option '{next(iter(options))}'.")
    processes = _Processes(at_once)
    with stop_requests(processes.stop) as asked, ThreadPoolExecutor(at_once) as pool:
        try:
            futures = {pool.submit(processes.run, job): job for job in jobs}
            for future in as_completed(futures):
                cause = future.result()
                if not asked:
                    ended(futures[future], cause)
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
        """Run a job and return the signal that killed it, if one did; return at once after `stop`."""
        slot = self._slots.get()
        try:
            process = self._start(job, slot)
            if process is None:
                return None
            code = process.wait()
            kill_group(process.pid)  # what it started and did not end
            self._running.discard(process)
            return f"killed by signal {-code}" if code < 0 else None
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
            with (job.folders[0] / LOG).open("wb") as log:  # until the worker writes a log for each run
                process = subprocess.Popen(
                    [*CHILD, *job.arguments],
                    stdin=subprocess.PIPE,  # never written to; see `vlmadapt.compare.launchers.child`
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

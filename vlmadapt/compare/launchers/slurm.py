"""Jobs as an array of a Slurm cluster, through submitit (`pip install 'vlmadapt[slurm]'`).

A preempted or timed-out job is put into the queue again and resumes its runs from their folders, which the nodes must
share with the machine that compares.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmadapt.compare.job import Ended, Job
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.interrupt import stop_requests
from vlmadapt.text import first_line

FOLDER = "runs/submitit"
POLL = 2.0
"""Seconds between two looks at the jobs."""


class Command:
    """A job's command line as submitit calls it on a node."""

    def __init__(self, command: Sequence[str]):
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command and return its exit code."""
        self._process = subprocess.Popen(self._command)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Called before a preemption or a timeout: let the runs save their state, and queue the same command again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        return DelayedSubmission(Command(self._command))


def run_all(jobs: Sequence[Job], at_once: int, ended: Ended, options: Mapping[str, Any]) -> bool:
    """Submit jobs as an array and wait for them, see `vlmadapt.compare.job.Launcher`.

    Options are the parameters of `submitit.AutoExecutor.update_parameters`, as `timeout_min`, `gpus_per_node` and
    `slurm_partition`; and `folder` for submitit's own logs, and `cluster` for its other executors, `local` and `debug`.

    Raises:
        VlmadaptError: submitit is not installed, Slurm is not there, or an option is wrong.
    """
    try:
        import submitit
    except ImportError as error:
        raise VlmadaptError("the launcher 'slurm' needs submitit: pip install 'vlmadapt[slurm]'.") from error
    given = dict(options)
    cluster, folder = given.pop("cluster", "slurm"), Path(given.pop("folder", FOLDER))
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(slurm_array_parallelism=at_once, **given)
        with executor.batch():
            submitted = [executor.submit(Command(job.command)) for job in jobs]
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError, OSError) as error:
        raise VlmadaptError(f"submitit cannot submit jobs: {first_line(error)}") from error
    waiting = dict(zip(submitted, jobs, strict=True))
    with stop_requests() as asked:
        while waiting and not asked:
            done = [one for one in waiting if one.done()]
            for one in done:
                ended(waiting.pop(one), _cause(one))
            if not done:
                time.sleep(POLL)
        for one in waiting:
            one.cancel()
    return not asked


def _cause(job: Any) -> str | None:
    """Why a job failed, None if its command was run."""
    error = job.exception()
    if error is not None:
        return f"job {job.job_id} {job.state.lower()}"
    code: int = job.result()
    return f"killed by signal {-code}" if code < 0 else None

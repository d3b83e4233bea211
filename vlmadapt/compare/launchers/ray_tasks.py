"""Jobs as tasks of Ray (`pip install 'vlmadapt[ray]'`): on this machine, or on a cluster in a cloud or on Kubernetes.

A task whose worker dies is started again by Ray and resumes its runs from their folders, which all nodes must share
with the machine that compares.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from vlmadapt.compare.job import Ended, Job
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.interrupt import stop_requests
from vlmadapt.text import first_line

TASK = ("num_cpus", "num_gpus", "memory", "resources", "max_retries", "runtime_env")
"""Options of a task; all others are those of `ray.init`."""
STOPPING = 30.0
"""Seconds that cancelled tasks have to save the state of their runs."""
POLL = 1.0
"""Seconds between two looks at whether a signal asks to stop."""


def run_all(jobs: Sequence[Job], at_once: int, ended: Ended, options: Mapping[str, Any]) -> bool:
    """Run jobs as Ray tasks, at most `at_once` of them, see `vlmadapt.compare.job.Launcher`.

    Options in `TASK` are those of a task (`num_gpus`, `num_cpus`, ...), others those of `ray.init` (`address`, ...).

    Raises:
        VlmadaptError: ray is not installed, no cluster answers, or an option is wrong.
    """
    try:
        import ray
    except ImportError as error:
        raise VlmadaptError("the launcher 'ray' needs ray: pip install 'vlmadapt[ray]'.") from error
    of_task = {name: value for name, value in options.items() if name in TASK}
    try:
        ray.init(ignore_reinit_error=True, **{k: v for k, v in options.items() if k not in TASK})
        task = ray.remote(run_command).options(**{"max_retries": 3, **of_task})
    except (RuntimeError, ValueError, TypeError, ConnectionError) as error:
        raise VlmadaptError(f"ray cannot start: {first_line(error)}") from error
    left: list[Job] = list(jobs)
    running: dict[Any, Job] = {}
    with stop_requests() as asked:
        while (left or running) and not asked:
            while left and len(running) < at_once:
                job = left.pop(0)
                running[task.remote(job.command)] = job
            done, _ = ray.wait(list(running), timeout=POLL)
            for one in done:
                ended(running.pop(one), _cause(one))
        for one in running:
            ray.cancel(one, force=False)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=STOPPING)
    return not asked


def run_command(command: Sequence[str]) -> int:
    """Run a command on a worker and return its exit code; when the task is cancelled, the runs save their state."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def _cause(task: Any) -> str | None:
    """Why a task failed, None if its command was run."""
    import ray

    try:
        code: int = ray.get(task)
    except ray.exceptions.RayError as error:
        return first_line(error, named=True)
    return f"killed by signal {-code}" if code < 0 else None

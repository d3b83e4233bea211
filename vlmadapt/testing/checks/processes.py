"""Several processes train one method."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

from vlmadapt.core.method import trainable_count
from vlmadapt.testing.outcome import CheckFailed, NotApplicable
from vlmadapt.testing.subject import Subject

PROCESSES, SECONDS = 2, 180


def two_processes(subject: Subject) -> None:
    """Two processes with unequal shares of a batch end with the same parameters."""
    if subject.name is None:
        raise NotApplicable("the processes find a method by its registered name, and this one is given as a class")
    if not trainable_count(subject.trained.method) or not subject.recipe.epochs:
        raise NotApplicable("it is not trained step by step")
    workers = _start(subject.name, json.dumps(subject.options))
    try:
        answers = [worker.communicate(timeout=SECONDS) for worker in workers]
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"two processes are not done in {SECONDS} s; they wait for each other.") from error
    finally:
        for worker in workers:
            worker.kill()
    for worker, (_, complaint) in zip(workers, answers, strict=True):
        if worker.returncode:
            last = (complaint.strip().splitlines() or ["no reason given"])[-1]
            raise CheckFailed(f"a process of two fails: {last}")
    states = [answer.split()[-1] for answer, _ in answers]
    if len(set(states)) > 1:
        raise CheckFailed("behind training, two processes hold different parameters.")


def _start(name: str, options: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(PROCESSES),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "vlmadapt.testing.worker", name, options]
    return [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]

"""Several processes train one method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlmadapt.core.method import trainable_count
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.training import SHARED_BATCH
from vlmadapt.testing.under_test import Subject

PROCESSES, SECONDS = 2, 180
TOLERANCE = 1e-2
"""Largest distance from one process's parameters, as a part of the way these have come."""


def two_processes(subject: Subject) -> None:
    """Two processes with unequal shares of a batch end with the same parameters, those of one process."""
    if subject.name is None:
        raise NotApplicable("the processes find a method by its registered name, and this one is given as a class")
    if not trainable_count(subject.trained.method) or not subject.recipe.epochs:
        raise NotApplicable("it is not trained step by step")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.safetensors" for rank in range(PROCESSES)]
        _run(subject.name, json.dumps(subject.options), files)
        states = [load_file(file) for file in files]
    if not all(torch.equal(value, states[1][name]) for name, value in states[0].items()):
        raise CheckFailed("behind training, two processes hold different parameters.")
    _as_one_process(subject, states[0])


def _as_one_process(subject: Subject, state: dict[str, Tensor]) -> None:
    """Compare with what one process trains, by how far it came from where it started."""
    start, alone = (
        subject.fit(batch_size=SHARED_BATCH, dropout=False, epochs=epochs).method
        for epochs in (0, subject.recipe.epochs)
    )
    ours = torch.cat([state[name].flatten() for name, _ in alone.named_parameters()])
    before, behind = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (start, alone))
    way, difference = float((behind - before).norm()), float((ours - behind).norm())
    if not difference <= TOLERANCE * way:
        raise CheckFailed(
            f"two processes end {difference:.2g} beside the parameters of one process, which came {way:.2g} far.",
            "average a loss over the images of the batch and over nothing that a process counts by itself; a method "
            "that compares images with each other says `whole_batch = True`.",
        )


def _run(name: str, options: str, files: Sequence[Path]) -> None:
    """Train in several processes, each of which writes a file.

    Raises:
        CheckFailed: one of them fails, or they are not done in time.
    """
    workers = _start(name, options, files)
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


def _start(name: str, options: str, files: Sequence[Path]) -> list[subprocess.Popen[str]]:
    common = {
        **os.environ,
        "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    # They meet in a file: a port that was free a moment ago may be taken by another process.
    command = [sys.executable, "-m", "vlmadapt.testing.worker", name, options, str(files[0].with_name("meeting"))]
    return [
        subprocess.Popen(
            [*command, str(file)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, file in enumerate(files)
    ]

"""Check of training in several processes."""

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
from vlmadapt.testing.checks.compare import same
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.training import SHARED_BATCH
from vlmadapt.testing.under_test import MethodUnderTest
from vlmadapt.testing.worker import ANSWERS, STATE

PROCESSES, SECONDS = 2, 180
TOLERANCE = 1e-2
"""Maximum relative deviation from training in one process (distance / norm of its update)."""


def two_processes(tested: MethodUnderTest) -> None:
    """Two processes with unequal shards of a batch end with the parameters of one process, and answer as it does."""
    if tested.name is None:
        raise NotApplicable("the processes look up a method by its registered name, and this one is given as a class")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.safetensors" for rank in range(PROCESSES)]
        _run(tested.name, json.dumps(tested.options), files)
        written = [load_file(file) for file in files]
    answers = [content.pop(ANSWERS) for content in written]
    states = [{name.removeprefix(STATE): value for name, value in content.items()} for content in written]
    if not all(torch.equal(value, states[1][name]) for name, value in states[0].items()):
        raise CheckFailed("after training, two processes have different parameters.")
    if trainable_count(tested.trained.method) and tested.recipe.epochs:
        _as_one_process(tested, states[0])
    _answers_as_one_process(tested, states[0], answers)


def _answers_as_one_process(tested: MethodUnderTest, state: dict[str, Tensor], answers: Sequence[Tensor]) -> None:
    """Compare the answers with those of one process in the same state."""
    method = tested.build()
    method.load_state_dict(state)
    alone = tested.answers(tested.classifier(method.eval()))
    together = answers[0] if method.streams else torch.cat(list(answers))
    try:
        same("scores of one process and of two, each with a share of the images", alone, together)
    except CheckFailed as failure:
        raise CheckFailed(
            failure.problem,
            "let `route` change nothing that it depends on; if an answer is meant to depend on earlier images, set "
            "`streams = True`.",
        ) from failure


def _as_one_process(tested: MethodUnderTest, state: dict[str, Tensor]) -> None:
    """Compare with training in one process, relative to its update."""
    start, alone = (
        tested.fit(batch_size=SHARED_BATCH, dropout=False, epochs=epochs).method for epochs in (0, tested.recipe.epochs)
    )
    ours = torch.cat([state[name].flatten() for name, _ in alone.named_parameters()])
    before, after = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (start, alone))
    update, difference = float((after - before).norm()), float((ours - after).norm())
    if not difference <= TOLERANCE * update:
        raise CheckFailed(
            f"two processes end {difference:.2g} away from the parameters of one, whose update is {update:.2g}.",
            "average a loss over the images of the batch, and over nothing that each process counts for itself; set "
            "`whole_batch = True` if the method compares images with each other.",
        )


def _run(name: str, options: str, files: Sequence[Path]) -> None:
    """Train in several processes, each of which writes one file.

    Raises:
        CheckFailed: a process fails, or they do not end in time.
    """
    workers = _start(name, options, files)
    try:
        outputs = [worker.communicate(timeout=SECONDS) for worker in workers]
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"two processes did not end within {SECONDS} s; they wait for each other.") from error
    finally:
        for worker in workers:
            worker.kill()
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        if worker.returncode:
            last = (errors.strip().splitlines() or ["no reason given"])[-1]
            raise CheckFailed(f"one of two processes failed: {last}")


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

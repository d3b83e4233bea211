"""Time and memory of a run, estimated from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmadapt.evaluation.accuracy import BATCH, predict_group
from vlmadapt.runs.lock import exclusive
from vlmadapt.runs.memory import peak_memory, reset_peak_memory
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.runs.settings import FitSettings
from vlmadapt.training.fit import FitJob, start, training_loop, trains
from vlmadapt.training.observers import Checkpoints


@dataclass(frozen=True)
class RunCost:
    """Estimated cost of a run on this machine.

    Attributes:
        seconds: time of the whole run, without the start of its process.
        memory: peak memory in bytes.
    """

    seconds: float
    memory: int


def estimate_cost(settings: FitSettings, steps: int = 5) -> RunCost:
    """Start a run in a temporary folder, do a few steps, test a batch of each group, and scale up.

    What a method searches after training is not counted.

    Raises:
        VlmadaptError: the run cannot be started.
    """
    with TemporaryDirectory() as folder:
        run = Run.new(Path(folder) / "run")
        settings = replace(settings.resolved(), out=str(run.folder))
        reset_peak_memory()
        with exclusive(run.folder) as owner:
            began = time.perf_counter()
            job = start(settings, Session.join(settings.workers), run, owner, resumed=False)
            seconds = time.perf_counter() - began + _training(job, steps) + _testing(job)
        return RunCost(seconds, peak_memory())


def _training(job: FitJob, steps: int) -> float:
    """Seconds of all steps, judging by a few; the first one is left out because it also fills caches."""
    if not trains(job.classifier.method):
        return 0.0
    loop = training_loop(job, Checkpoints(job.run, None, {}))
    began: list[float] = []

    def enough() -> bool:
        began.append(time.perf_counter())
        return len(began) > steps

    loop.train(stop=enough)
    done = loop.progress.steps
    # A run of a single step has no second one to measure.
    each = (time.perf_counter() - began[min(1, done - 1)]) / max(done - 1, 1)
    return each * loop.recipe.epochs * len(loop.batches)


def _testing(job: FitJob) -> float:
    """Seconds of all tests, judging by a batch of each group."""
    seconds = 0.0
    for group in job.splits.groups:
        part = replace(group, examples=group.examples[:BATCH])
        found = predict_group(job.classifier, part, job.session)
        seconds += found.seconds * len(group.examples) / len(part.examples)
    return seconds

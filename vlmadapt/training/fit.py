"""`fit`: from settings to a trained adapter, its accuracies and a run folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlmadapt.core.classifier import Classifier
from vlmadapt.data.splits import manifest
from vlmadapt.errors import TrainingError
from vlmadapt.evaluation.predict import predictor_of
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.runs.distributed import ended_with_peers
from vlmadapt.runs.identity import run_identity
from vlmadapt.runs.interrupt import Interrupted, stop_requests
from vlmadapt.runs.lock import exclusive
from vlmadapt.runs.resumption import interrupted_run, resumed_settings
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.runs.settings import FitSettings
from vlmadapt.runs.shared import Shared
from vlmadapt.training.build_loop import training_loop
from vlmadapt.training.finish import finish
from vlmadapt.training.observers import Checkpoints
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.start import FitJob, start, trains
from vlmadapt.training.track import FILES, check_trackers, tracking

_ONE_AT_A_TIME = threading.RLock()
"""One run at a time: start values and dropout draw from torch's global generator, which two runs would share."""


@dataclass(frozen=True)
class FitResult:
    """A finished run.

    Attributes:
        folder: the run folder.
        numbers: the content of `result.json`.
        classifier: the trained method on its backbone.
    """

    folder: Path
    numbers: dict[str, Any]
    classifier: Classifier

    @property
    def predictor(self) -> Predictor:
        """The trained method, ready to predict images, as `load` gives it for the folder."""
        return predictor_of(Run.open(self.folder), self.classifier)


def fit(
    settings: FitSettings,
    *,
    resume: Path | str | None = None,
    changes: Mapping[str, Any] | None = None,
    shared: Shared | None = None,
) -> FitResult:
    """Train a method and test it.

    One run at a time in each process; in a second thread `fit` waits for the first one.

    Args:
        settings: settings of the run; ignored with `resume`, which uses those of the run folder.
        resume: a run folder to continue, to the same final numbers as an uninterrupted run.
        changes: settings that a resumed run gets, see `vlmadapt.runs.resumption`.
        shared: what runs of this process share, so that later ones are faster; results are the same without it.

    Raises:
        VlmadaptError: anything the user can fix, before any work is done where possible.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    with _ONE_AT_A_TIME:
        if resume is None:
            settings = settings.resolved()
            resume = interrupted_run(settings)
            if resume is None:
                return _fit(settings, None, shared)
        folder = Path(resume)
        return _fit(resumed_settings(Run.open(folder), changes or {}), folder, shared)


def _fit(settings: FitSettings, resume: Path | None, shared: Shared | None) -> FitResult:
    folder = resume or Path(settings.out or "run")
    check_trackers(settings.tracker_names)
    session = Session.join(settings.workers, settings.tracker_names, folder / FILES, shared)
    with ended_with_peers(), exclusive(folder) if session.main else nullcontext() as owner:
        run = Run.open(folder) if resume else Run.new(folder)
        job = start(settings, session, run, owner, resumed=resume is not None)
        with tracking(session.accelerator, settings, folder):
            return FitResult(run.folder, finish(job, _train(job)), job.classifier)


def _train(job: FitJob) -> TrainingProgress:
    """Train a prepared method, from its saved state if there is one, and call `finish`."""
    method = job.classifier.method
    if trains(method):
        progress = _run_loop(job)
    else:
        _keep_changes(job)
        progress = TrainingProgress()
    with torch.no_grad():
        method.eval().finish(job.support)
    return progress


def _keep_changes(job: FitJob) -> None:
    """Write changed settings of a resumed run, once nothing is left that could refuse them."""
    if job.owner is not None:
        job.owner.check()
        job.run.restart(job.settings)


def _run_loop(job: FitJob) -> TrainingProgress:
    """Run the training loop.

    Raises:
        Interrupted: stopped by a signal; the state is saved.
        TrainingError: the loss is not finite; the last saved state is kept.
    """
    data = manifest(job.splits)["sha256"]
    identity = run_identity(job.settings, data, job.classifier.backbone.identity())
    checkpoints = Checkpoints(job.run, job.owner, identity)
    loop = training_loop(job, checkpoints)
    checkpoints.restore(loop)
    _keep_changes(job)
    epochs, steps = loop.recipe.epochs, len(loop.batches)
    with stop_requests() as requests, job.session.reporter.bar("training", epochs * steps), _advice(job.run):
        progress = loop.train(stop=lambda: bool(requests))
        if loop.captured is not None and loop.captured.reason is not None:
            job.session.reporter.say(f"training steps ran eagerly: {loop.captured.reason}.")
        if job.classifier.device.type == "cuda":
            job.session.reporter.say(loop.bound)
        if loop.stopped:
            raise Interrupted(job.run.folder, progress.epoch + 1, progress.step, steps)
        if requests:
            raise Interrupted(job.run.folder, epochs, steps, steps)
    if progress.best:
        job.classifier.method.load_state_dict(progress.best)
    return progress


@contextmanager
def _advice(run: Run) -> Iterator[None]:
    """Add to a training error which state is saved and what may help."""
    try:
        yield
    except TrainingError as error:
        kept = f"the last good state is in '{run.folder}'" if run.state.is_file() else "nothing is saved"
        raise TrainingError(
            f"{error}; training stopped, {kept}. A smaller --train.lr or --train.precision fp32 may help."
        ) from error

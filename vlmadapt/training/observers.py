"""Observers of the training loop in `fit`: progress bar, checkpoints and metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from vlmadapt.core.method import LossTerm
from vlmadapt.data.loader import Batch
from vlmadapt.runs.lock import Ownership
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run
from vlmadapt.training.checkpoint import load_state, save_state
from vlmadapt.training.loop import Observer, TrainingLoop

SAVE_EVERY = 60.0
"""Seconds after which the state is saved even within an epoch."""


class ProgressBar(Observer):
    """Shows loss, accuracy and images per second, loading included, next to a bar."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._first: float | None = None
        self._images = 0

    def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
        """Move the bar."""
        labelled = not loop.method.unlabelled
        now = time.monotonic()
        if self._first is None:  # before it, images were prepared
            self._first, said = now, loop.progress.summary(labelled)
        else:
            self._images += batch.total
            said = f"{loop.progress.summary(labelled)}  {self._images / max(now - self._first, 1e-9):.0f} img/s"
        self._reporter.update(loop.progress.steps, said)


class Checkpoints(Observer):
    """Saves the state and the metrics of a run: after each epoch, every `SAVE_EVERY` seconds, and when stopped.

    Args:
        run: folder to save to.
        owner: ownership of the folder, in the process that writes; None in the others.
        identity: what the numbers of the run depend on, see `run_identity`.
    """

    def __init__(self, run: Run, owner: Ownership | None, identity: Mapping[str, Any]):
        self._run = run
        self._owner = owner
        self._identity = identity
        self._saved = time.monotonic()

    def restore(self, loop: TrainingLoop) -> None:
        """Continue from the saved state, if there is one.

        Raises:
            VlmadaptError: the state cannot be read, is damaged, or belongs to another run.
        """
        if self._run.state.is_file():
            loop.progress = load_state(self._run.state, loop.method, loop.trainer, self._identity)
            if self._owner is None:  # the saved sums are those of all processes
                loop.progress.sums = dict.fromkeys(loop.progress.sums, 0.0)

    def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
        """Save if `SAVE_EVERY` seconds have passed since the last save."""
        # With several processes each has its own sums of the epoch, so only whole epochs are saved.
        due = time.monotonic() - self._saved > SAVE_EVERY
        if due and loop.trainer.processes == 1 and not loop.trainer.interrupted:
            loop.look()
            self._save(loop)

    def epoch_done(self, loop: TrainingLoop) -> None:
        """Save."""
        self._save(loop)

    def stopped(self, loop: TrainingLoop) -> None:
        """Save."""
        self._save(loop)

    def _save(self, loop: TrainingLoop) -> None:
        if self._owner is not None:
            self._owner.check()
            save_state(self._run.state, loop.method, loop.trainer, loop.progress, self._identity)
            self._run.write_metrics(loop.progress.history)
        self._saved = time.monotonic()

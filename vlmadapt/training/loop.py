"""The training loop: epochs, steps and what is logged; files and progress bars are the observers' concern."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import LossTerm, total
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.loader import Batch
from vlmadapt.errors import TrainingError
from vlmadapt.roles import SEEN
from vlmadapt.training.optim import learning_rate
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.trainer import StepTrainer


class Batches(Protocol):
    """Training batches, epoch by epoch; `len` is the number of batches in an epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shard of each batch of an epoch, from batch `start` on."""


class Observer:
    """Callbacks of a training loop; each does nothing by default."""

    def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
        """Called after each step with its loss terms."""

    def epoch_done(self, loop: TrainingLoop) -> None:
        """Called after each epoch, once its numbers are in `loop.progress.history`."""

    def stopped(self, loop: TrainingLoop) -> None:
        """Called after the last step when a stop was requested."""


class TrainingLoop:
    """Trains a method; every process runs one.

    Args:
        classifier: method and backbone.
        classes: names that the labels index.
        batches: training batches, sharded by `StepTrainer.shard`.
        recipe: training settings, with `epochs` set.
        trainer: runs the optimiser.
        observers: called after each step and epoch, in this order.

    Attributes:
        progress: current position; assign a saved one to continue from it.
        stopped: True once a stop request ended training early.
    """

    def __init__(
        self,
        classifier: Classifier,
        classes: Sequence[str],
        batches: Batches,
        recipe: Recipe,
        trainer: StepTrainer,
        observers: Sequence[Observer] = (),
    ):
        self.classifier = classifier
        self.method = classifier.method
        self.classes = classes
        self.batches = batches
        self.recipe = recipe
        self.trainer = trainer
        self.progress = TrainingProgress()
        self.stopped = False
        self._observers = observers

    def train(self, stop: Callable[[], bool] = lambda: False) -> TrainingProgress:
        """Run the remaining epochs.

        Args:
            stop: called before each step; once it returns True in any process, all processes stop after that step.

        Raises:
            TrainingError: the loss is not finite.
        """
        while self.progress.epoch < self.recipe.epochs and not self.stopped:
            self._epoch(stop)
        return self.progress

    def _epoch(self, stop: Callable[[], bool]) -> None:
        progress = self.progress
        self.method.train()
        if progress.step == 0:
            self.method.epoch_start(progress.epoch, self.recipe.epochs)
            if progress.epoch % self.recipe.cycle == 0:
                self.trainer.optimizer.state.clear()
        for batch in self.batches.epoch(progress.epoch, progress.step):
            self.trainer.interrupted = stop()
            terms = self._timed_step(batch)
            for observer in self._observers:
                observer.step_done(self, batch, terms)
            if self.trainer.interrupted:
                self._stop()
                return
        self.method.epoch_end(progress.epoch, self.recipe.epochs)
        self._close_epoch()

    def _timed_step(self, batch: Batch) -> list[LossTerm]:
        progress = self.progress
        began = time.perf_counter()
        terms, correct = self._step(batch)
        progress.step += 1
        progress.steps += 1
        progress.seconds += time.perf_counter() - began
        self._count(batch, terms, correct)
        return terms

    def _step(self, batch: Batch) -> tuple[list[LossTerm], Tensor]:
        """One training step; returns its loss terms and the number of images classified correctly."""
        progress = self.progress
        lr = learning_rate(self.recipe, progress.epoch, progress.step, len(self.batches))
        self.trainer.start_step(lr, self.trainer.weight_of(len(batch.labels), batch.total))
        images, labels = batch.images, batch.labels
        if not len(labels):  # an empty shard takes part in every exchange between processes, with weight 0
            images, labels = images.new_zeros(1, *images.shape[1:]), labels.new_zeros(1)
        device = self.classifier.device
        fwd = self.classifier.forward(images.to(device), self.classes, labels.to(device))
        try:
            with self.trainer.autocast():
                terms = self.method.training_step(fwd, self.trainer)
                with torch.no_grad():
                    correct = (self.method.route(fwd, SEEN).argmax(-1) == fwd.labels).sum()
        except TrainingError as error:
            raise TrainingError(f"{error} in epoch {progress.epoch + 1}, step {progress.step + 1}") from error
        return terms, correct

    def _count(self, batch: Batch, terms: list[LossTerm], correct: Tensor) -> None:
        """Add this process's shard of a step to the sums of the epoch."""
        sums, n = self.progress.sums, len(batch.labels)
        detached = [LossTerm(name, weight, value.detach()) for name, weight, value in terms]
        values = {"loss": float(total(detached)), **{f"loss/{name}": float(value) for name, _, value in detached}}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value * n
        sums["correct"] = sums.get("correct", 0.0) + (float(correct) if n else 0.0)
        sums["images"] = sums.get("images", 0.0) + n

    def _stop(self) -> None:
        self.stopped = True
        self.progress.sums = self._summed()
        for observer in self._observers:
            observer.stopped(self)

    def _close_epoch(self) -> None:
        progress, sums, steps = self.progress, self._summed(), len(self.batches)
        images = max(sums.pop("images"), 1.0)
        accuracy = sums.pop("correct") / images
        progress.history.append({
            "epoch": progress.epoch + 1,
            "lr": learning_rate(self.recipe, progress.epoch, steps - 1, steps),
            **{name: value / images for name, value in sums.items()},
            "train_accuracy": accuracy,
            "step_seconds": progress.seconds / max(progress.steps, 1),
        })  # fmt: skip
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        for observer in self._observers:
            observer.epoch_done(self)

    def _summed(self) -> dict[str, float]:
        """The sums of the epoch so far, over all processes."""
        names = sorted(self.progress.sums)
        local = torch.tensor([self.progress.sums[name] for name in names], dtype=torch.float64, device="cpu")
        return dict(zip(names, self.trainer.sum_over_processes(local).tolist(), strict=True))

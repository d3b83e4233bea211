"""Training loop: epochs, steps and logged numbers; observers write files and show progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.image_bank import ImageBank
from vlmadapt.core.method import LossTerm, Support, enter_cycle
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.feed import Feed
from vlmadapt.data.loader import Batch
from vlmadapt.errors import TrainingError
from vlmadapt.training.capture import CapturedStep
from vlmadapt.training.optim import learning_rate
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.step import EpochSums, StepNumbers, TrainingStep
from vlmadapt.training.trainer import NotFinite, StepTrainer

LOOK_EVERY = 0.5
"""Seconds between two reads from the device, for the progress bar and to detect losses that are not finite."""


LOADING_BOUNDS = 0.3
"""Share of the time spent waiting for images from which on loading is said to bound a run."""


class Batches(Protocol):
    """Training batches, epoch by epoch; `len` is the number of batches in an epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shard of each batch of an epoch, from batch `start` on."""


class BankedSupport(Support, Protocol):
    """Support images that steps can draw from, too."""

    def bank(self, epoch: int) -> ImageBank:
        """The training images in their view of an epoch, in the same memory at every call."""


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
        support: the labelled images, for the method.
        observers: called after each step and epoch, in this order.
        captured: replay the step as a CUDA graph, see `vlmadapt.training.capture`.
        encoded: the batches hold the output (n, width) of the untouched image tower instead of images.

    Attributes:
        progress: current position; assign a saved one to continue from it.
        stopped: True once a stop request ended training early.
        feed: brings batches to the device, and measures how long it waits for the loader.
        seconds: time that `train` took.
        step: the training step.
        captured: captured step, None if steps always run eagerly.
    """

    def __init__(
        self,
        classifier: Classifier,
        classes: Sequence[str],
        batches: Batches,
        recipe: Recipe,
        trainer: StepTrainer,
        support: BankedSupport,
        observers: Sequence[Observer] = (),
        captured: bool = False,
        encoded: bool = False,
    ):
        self.classifier = classifier
        self.method = classifier.method
        self.batches = batches
        self.recipe = recipe
        self.trainer = trainer
        self.progress = TrainingProgress()
        self.stopped = False
        self.feed = Feed(classifier.device)
        self.seconds = 0.0
        self._support = support
        self._observers = observers
        self.step = TrainingStep(classifier, classes, trainer, encoded)
        self.captured = CapturedStep(self.step) if captured else None
        self._sums = EpochSums({})
        self._looked = time.monotonic()

    def train(self, stop: Callable[[], bool] = lambda: False) -> TrainingProgress:
        """Run the remaining epochs.

        Args:
            stop: called before each step; once it returns True in any process, all processes stop after that step.

        Raises:
            TrainingError: the loss is not finite.
        """
        began = time.perf_counter()
        while self.progress.epoch < self.recipe.epochs and not self.stopped:
            self._epoch(stop)
        self.seconds = time.perf_counter() - began
        return self.progress

    @property
    def bound(self) -> str:
        """What bounds the speed of a run that has ended, loading images or the steps, in a sentence."""
        share = self.feed.waited / max(self.seconds, 1e-9)
        said = f"{self.feed.waited:.1f} of {self.seconds:.1f} seconds of training waited for images"
        if share < LOADING_BOUNDS:
            return f"{said}: the steps bound the run."
        return f"{said}: loading bounds the run; more --workers or --augment device may help."

    def _epoch(self, stop: Callable[[], bool]) -> None:
        progress = self.progress
        self.method.train()
        enter_cycle(self.method, self.recipe.cycle_at(progress.epoch))
        if progress.step == 0:
            self._start_cycle()
            self.method.epoch_start(progress.epoch, self.recipe.epochs)
        self.trainer.start_epoch()
        now = (name for name, parameter in self.method.named_parameters() if parameter.requires_grad)
        progress.trained = list(dict.fromkeys((*progress.trained, *now)))
        self._fill_bank()
        if self.captured is not None:
            self.captured.start_epoch()
        self._sums = EpochSums(progress.sums)
        for batch in self.feed(self.batches.epoch(progress.epoch, progress.step)):
            self.trainer.interrupted = stop()
            terms = self._timed_step(batch)
            for observer in self._observers:
                observer.step_done(self, batch, terms)
            if self.trainer.must_stop(progress.step, last=progress.step == len(self.batches)):
                self._stop()
                return
            if self._time_to_look():
                self.look()
        self.look()
        self.method.epoch_end(progress.epoch, self.recipe.epochs)
        self._close_epoch()

    def _start_cycle(self) -> None:
        """Before the first epoch of a cycle: tell the method, and clear the optimiser's memory."""
        cycle = self.method.cycle
        if cycle.start == self.progress.epoch:
            with torch.no_grad():
                self.method.cycle_start(cycle.number, self._support)
            self.trainer.restart()

    def _fill_bank(self) -> None:
        """Show the training images of this epoch to steps that draw some by class."""
        if self.method.draws_images:
            self.classifier.bank = self._support.bank(self.progress.epoch)

    def _time_to_look(self) -> bool:
        """Whether to read from the device: every `LOOK_EVERY` seconds, with several processes after the same step."""
        if self.trainer.processes > 1:
            return self.trainer.agrees_after(self.progress.step)
        return time.monotonic() - self._looked > LOOK_EVERY

    def look(self) -> None:
        """Read the sums of the epoch from the device into `progress`, and raise if training has failed.

        Raises:
            TrainingError: the loss or a gradient was not finite; parameters are those before that step.
        """
        began = time.perf_counter()
        try:
            self.trainer.check()
        except NotFinite as error:
            epoch, step = divmod(error.step, len(self.batches))
            raise TrainingError(f"{error} in epoch {epoch + 1}, step {step + 1}") from error
        self.progress.sums = self._sums.read()
        self.progress.seconds += time.perf_counter() - began  # on a GPU, time of steps that were still running
        self._looked = time.monotonic()

    def _timed_step(self, batch: Batch) -> Sequence[LossTerm]:
        progress = self.progress
        began = time.perf_counter()
        numbers = self._step(batch)
        self._sums.add(numbers, len(batch.labels))
        progress.step += 1
        progress.steps += 1
        progress.seconds += time.perf_counter() - began
        return numbers.terms

    def _step(self, batch: Batch) -> StepNumbers:
        progress, trainer = self.progress, self.trainer
        lr = learning_rate(self.recipe, progress.epoch, progress.step, len(self.batches))
        trainer.start_step(lr, trainer.weight_of(len(batch.labels), batch.total), progress.steps, batch.total)
        images, labels = batch.images, batch.labels
        if not len(labels):  # an empty shard takes part in all communication between processes, with weight 0
            images, labels = images.new_zeros(1, *images.shape[1:]), labels.new_zeros(1)
        return (self.captured or self.step)(images, labels)

    def _stop(self) -> None:
        self.stopped = True
        self.look()
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
            **({} if self.method.unlabelled else {"train_accuracy": accuracy}),
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

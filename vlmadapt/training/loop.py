"""The training loop: epochs, steps, what is logged, and a state to go on from at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import SEEN, LossTerm, total
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.dataset import Example
from vlmadapt.data.loader import Batch, TrainBatches, eval_batches
from vlmadapt.data.splits import Splits
from vlmadapt.data.transforms import test_transform, train_transform
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import TrainingError
from vlmadapt.runs.interrupt import Interrupted, stop_requests
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt.training.checkpoint import Progress, load_state, save_state
from vlmadapt.training.optim import learning_rate, make_optimizer
from vlmadapt.training.trainer import StepTrainer

SAVE_EVERY = 60.0
"""Seconds after which the state is saved even within an epoch."""


class TrainingLoop:
    """Trains a method; every process runs one."""

    def __init__(
        self, classifier: Classifier, splits: Splits, settings: FitSettings, run: Run, accelerator: Accelerator
    ):
        self.classifier = classifier
        self.method = classifier.method
        self.splits = splits
        self.run = run
        self.accelerator = accelerator
        recipe = settings.recipe
        self.batches = TrainBatches(
            splits.train,
            train_transform(classifier.backbone.preprocess_config, recipe.crop_scale, recipe.flip),
            recipe.batch_size,
            settings.seed,
            0 if self.method.whole_batch else accelerator.process_index,
            1 if self.method.whole_batch else accelerator.num_processes,
            settings.workers,
        )
        # Where every process sees the whole batch, each counts for its part of the same loss.
        self.part = 1 / accelerator.num_processes if self.method.whole_batch else 1.0
        self.recipe: Recipe = recipe.with_epochs(len(splits.train) / len(splits.classes), len(self.batches))
        self.optimizer = make_optimizer(self.recipe, self.method.parameters())
        self.trainer = StepTrainer(self.method, self.optimizer, self.recipe, accelerator)
        self.progress = Progress()
        self._saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the saved state, where there is one."""
        if self.run.state.is_file():
            self.progress, scaler = load_state(self.run.state, self.method, self.optimizer)
            self.trainer.load_state(scaler)
            if not self.accelerator.is_main_process:  # the saved sums are those of all processes
                self.progress.sums = dict.fromkeys(self.progress.sums, 0.0)

    def train(self, reporter: Reporter) -> Progress:
        """All epochs that are left.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            TrainingError: the loss is not finite; the last saved state is kept.
        """
        with stop_requests() as asked, reporter.bar("training", self.recipe.epochs * len(self.batches)):
            while self.progress.epoch < self.recipe.epochs:
                self._epoch(reporter, asked)
            if asked:
                raise Interrupted(self.run.folder, self.recipe.epochs, len(self.batches), len(self.batches))
        return self.progress

    def _epoch(self, reporter: Reporter, asked: list[float]) -> None:
        progress, steps = self.progress, len(self.batches)
        self.method.train()
        if progress.step == 0:
            self.method.epoch_start(progress.epoch, self.recipe.epochs)
            if progress.epoch % self.recipe.cycle == 0:
                self.optimizer.state.clear()
        for batch in self.batches.epoch(progress.epoch, progress.step):
            began = time.perf_counter()
            self.trainer.interrupted = bool(asked)
            terms, correct = self._step(batch, steps)
            progress.step += 1
            progress.steps += 1
            progress.seconds += time.perf_counter() - began
            self._count(batch, terms, correct)
            reporter.update(progress.steps, progress.summary(batch.total))
            if self.trainer.interrupted:
                progress.sums = self._summed()
                self._save()
                raise Interrupted(self.run.folder, progress.epoch + 1, progress.step, steps)
            self._save_now_and_then()
        self.method.epoch_end(progress.epoch, self.recipe.epochs)
        self._close_epoch(steps)

    def _step(self, batch: Batch, steps: int) -> tuple[list[LossTerm], Tensor]:
        progress = self.progress
        lr = learning_rate(self.recipe, progress.epoch, progress.step, steps)
        self.trainer.start_step(lr, self.part * len(batch.labels) / batch.total)
        images, labels = batch.images, batch.labels
        if not len(labels):  # an empty share takes part in every message, with weight 0
            images, labels = images.new_zeros(1, *images.shape[1:]), labels.new_zeros(1)
        device = self.classifier.device
        x = self.classifier.forward(images.to(device), self.splits.classes, labels.to(device))
        try:
            with self.trainer.autocast():
                terms = self.method.training_step(x, self.trainer)
                with torch.no_grad():
                    correct = (self.method.route(x, SEEN).argmax(-1) == x.labels).sum()
        except TrainingError as error:
            kept = f"the last good state is in '{self.run.folder}'" if self.run.state.is_file() else "nothing is saved"
            raise TrainingError(
                f"{error} in epoch {progress.epoch + 1}, step {progress.step + 1}; training stopped, {kept}. "
                "A smaller --train.lr or --train.precision fp32 may help."
            ) from error
        return terms, correct

    def _count(self, batch: Batch, terms: list[LossTerm], correct: Tensor) -> None:
        """Add a step to the sums of the epoch, this process's share of it."""
        sums, n = self.progress.sums, len(batch.labels)
        detached = [LossTerm(name, weight, value.detach()) for name, weight, value in terms]
        values = {"loss": float(total(detached)), **{f"loss/{name}": float(value) for name, _, value in detached}}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value * n
        sums["correct"] = sums.get("correct", 0.0) + (float(correct) if n else 0.0)
        sums["images"] = sums.get("images", 0.0) + n

    def _close_epoch(self, steps: int) -> None:
        progress, sums = self.progress, self._summed()
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
        self._save()

    def _summed(self) -> dict[str, float]:
        """The sums of the epoch so far over all processes."""
        names = sorted(self.progress.sums)
        local = torch.tensor([self.progress.sums[name] for name in names], dtype=torch.float64, device="cpu")
        summed = self.accelerator.reduce(local.to(self.accelerator.device), "sum").tolist()
        return dict(zip(names, summed, strict=True))

    def _save_now_and_then(self) -> None:
        # With several processes the sums of an epoch live in each of them, so only whole epochs are saved.
        if self.accelerator.num_processes == 1 and time.monotonic() - self._saved > SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_state(self.run.state, self.method, self.optimizer, self.trainer.state(), self.progress)
            self.run.write_metrics(self.progress.history)
        self._saved = time.monotonic()


class SupportSet:
    """Implements `vlmadapt.core.method.Support` for a run; every process sees all of it, none the test images."""

    def __init__(self, classifier: Classifier, splits: Splits, settings: FitSettings):
        self._classifier = classifier
        self._classes, self._train, self._val = splits.classes, splits.train, splits.val
        self._settings = settings
        config, recipe = classifier.backbone.preprocess_config, settings.recipe
        self._plain = test_transform(config)
        self._augmented = train_transform(config, recipe.crop_scale, recipe.flip)

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """`times` epochs of the training images in fixed order."""
        for epoch in range(times):
            yield self._forwards(self._train, augmented, epoch)

    def passes(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """Deprecated: `epochs`."""
        warn_deprecated("Support.passes", "Support.epochs")
        return self.epochs(augmented, times)

    def validation(self) -> Iterator[ForwardPass]:
        """The validation images of the training classes."""
        yield from self._forwards(self._val, augmented=False, epoch=0)

    def _forwards(self, examples: Sequence[Example], augmented: bool, epoch: int) -> Iterator[ForwardPass]:
        transform = self._augmented if augmented else self._plain
        device = self._classifier.device
        for batch in eval_batches(
            examples, transform, batch_size=100, workers=self._settings.workers, seed=self._settings.seed, epoch=epoch
        ):
            yield self._classifier.forward(batch.images.to(device), self._classes, batch.labels.to(device))

"""Train with the loop of `fit` on images in memory, without a run folder or progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import LossTerm, Method, trainable_count
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.loader import Batch, GlobalBatches
from vlmadapt.testing.data import MemorySupport, Shots
from vlmadapt.training.loop import Observer, TrainingLoop
from vlmadapt.training.trainer import StepTrainer

EPOCHS = 2
STEPS = 2
"""Steps per epoch."""
SHARED_BATCH = 3
"""Batch size that two processes share unequally: one image for the first, two for the second."""

Watch = Callable[[Method, Sequence[LossTerm], list[list[Tensor | None]]], object]
"""Called after each step with the method, its loss terms, and the gradients of each optimiser step."""


class OneProcess:
    """The part of an accelerator that training in one process on the CPU needs."""

    device = torch.device("cpu")
    num_processes = 1
    process_index = 0


class MemoryBatches:
    """The first batches of images in memory; implements `vlmadapt.training.loop.Batches`.

    Args:
        shots: images and labels, taken in order.
        batch_size: images per batch over all processes.
        shard: shard of this process, and the number of shards.
    """

    def __init__(self, shots: Shots, batch_size: int, shard: tuple[int, int]):
        self._shots = shots
        self._sampler = GlobalBatches(len(shots.labels), batch_size, None, *shard)

    def __len__(self) -> int:
        return min(STEPS, len(self._sampler))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shard of each batch; every epoch has the same batches."""
        pairs = zip(self._sampler, self._sampler.batches(), strict=True)
        for shard, batch in islice(pairs, start, len(self)):
            indices = torch.tensor([index for _, index in shard], dtype=torch.long)
            yield Batch(self._shots.images[indices], self._shots.labels[indices], indices, len(batch))


class WatchedTrainer(StepTrainer):
    """Keeps the gradients of the current step's optimiser steps."""

    def start_step(self, lr: float, weight: float, step: int, batch: int = 0) -> None:
        """Drop the gradients of the previous step."""
        self.applied: list[list[Tensor | None]] = []
        super().start_step(lr, weight, step, batch)

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser."""
        self.applied.append(gradients)
        super().apply(gradients)


class Watcher(Observer):
    """Passes each step's loss terms and gradients on to a function."""

    def __init__(self, watch: Watch, trainer: WatchedTrainer):
        self._watch = watch
        self._trainer = trainer

    def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
        """Call the function."""
        self._watch(loop.method, terms, self._trainer.applied)


def switch_off_dropout(method: Method) -> None:
    """Set the probability of every dropout module to 0."""
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0


def train(
    classifier: Classifier,
    recipe: Recipe,
    shots: Shots,
    validation: Shots,
    watch: Watch | None = None,
    accelerator: Accelerator | None = None,
) -> None:
    """Prepare, train, finish.

    Args:
        classifier: holds the method.
        recipe: training settings.
        shots: training images.
        validation: validation images.
        watch: called after each step.
        accelerator: joins several processes; by default there is one.
    """
    method = classifier.method
    support = MemorySupport(classifier, shots, validation)
    with torch.no_grad():
        method.prepare(support)
    if trainable_count(method):
        trainer = WatchedTrainer(method, recipe, accelerator or cast(Accelerator, OneProcess()))
        batches = MemoryBatches(shots, recipe.batch_size, trainer.shard)
        observers = [Watcher(watch, trainer)] if watch else []
        TrainingLoop(classifier, shots.names, batches, recipe, trainer, support, observers).train()
    with torch.no_grad():
        method.eval().finish(support)

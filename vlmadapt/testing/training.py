"""Training as `fit` does it, without files or progress bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import LossTerm, Method, trainable_count
from vlmadapt.core.recipe import Recipe
from vlmadapt.testing.data import MemorySupport, Shots
from vlmadapt.training.optim import make_optimizer
from vlmadapt.training.trainer import StepTrainer

EPOCHS = 2
STEPS = 2
"""Steps of an epoch; enough to see what training does."""
SHARED_BATCH = 3
"""Images of a batch that two processes share: one gets two of them, the other one."""

Watch = Callable[[Method, list[LossTerm], list[list[Tensor | None]]], object]
"""Called behind each step with the method, its terms, and the gradients of each update it made."""


class OneProcess:
    """As much of an accelerator as training in one process on the CPU asks of it."""

    device = torch.device("cpu")
    num_processes = 1
    process_index = 0


class WatchedTrainer(StepTrainer):
    """Remembers the gradients that were applied."""

    def start_step(self, lr: float, share: float) -> None:
        """Forget those of the last step."""
        self.applied: list[list[Tensor | None]] = []
        super().start_step(lr, share)

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser."""
        self.applied.append(gradients)
        super().apply(gradients)


def switch_off_dropout(method: Method) -> None:
    """Let no module of a method drop anything, in training mode too."""
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
        recipe: how to train.
        shots: training images.
        validation: validation images.
        watch: called behind each step.
        accelerator: where there are several processes.
    """
    method = classifier.method
    support = MemorySupport(classifier, shots, validation)
    with torch.no_grad():
        method.prepare(support)
    if trainable_count(method):
        _epochs(classifier, recipe, shots, watch, accelerator or cast(Accelerator, OneProcess()))
    with torch.no_grad():
        method.eval().finish(support)


def _epochs(
    classifier: Classifier, recipe: Recipe, shots: Shots, watch: Watch | None, accelerator: Accelerator
) -> None:
    method = classifier.method
    trainer = WatchedTrainer(method, make_optimizer(recipe, method.parameters()), recipe, accelerator)
    for epoch in range(recipe.epochs):
        method.train()
        method.epoch_start(epoch, recipe.epochs)
        for images, labels in list(shots.batches(recipe.batch_size))[:STEPS]:
            # A method that compares images with each other gets all of them on every process, as in `fit`.
            parts = accelerator.num_processes
            mine = slice(None) if method.whole_batch else slice(accelerator.process_index, None, parts)
            share = 1 / parts if method.whole_batch else len(labels[mine]) / len(labels)
            trainer.start_step(recipe.lr, share)
            x = classifier.forward(images[mine], shots.names, labels[mine])
            with trainer.autocast():
                terms = method.training_step(x, trainer)
            if watch:
                watch(method, terms, trainer.applied)
        method.epoch_end(epoch, recipe.epochs)

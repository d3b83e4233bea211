"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vlmadapt.core.recipe import Recipe


def make_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], lr: Tensor | None = None
) -> torch.optim.Optimizer:
    """The fused torch optimiser of a recipe; one group, weight decay on every tensor, as in all published code.

    Args:
        recipe: optimiser and its settings.
        parameters: parameters to train.
        lr: scalar tensor on their device that holds the rate of each step; by default the recipe's constant rate.
    """
    rate = recipe.lr if lr is None else lr
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            parameters, lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
        if recipe.momentum:
            # Fused SGD creates uninitialised buffers at its first step, and leaves them so if the step is skipped.
            for parameter in optimizer.param_groups[0]["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    adam = kind(
        parameters,
        lr=rate,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,
        capturable=lr is not None and lr.is_cuda,
    )
    # Steps before a capture, and those that cannot be captured, run eagerly; torch would warn of it.
    adam._warned_capturable_if_run_uncaptured = True
    return adam


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Learning rate of step `step` of `steps` in epoch `epoch`, both counted from 0.

    'cosine' holds the rate for an epoch: `warmup_lr` in the first W epochs, then lr/2 (1 + cos(pi (e - W) / N)) with N
    all epochs. The cosine is not shifted to end at zero, as in the trainer that most published numbers come from.
    """
    cycle = recipe.cycle_at(epoch)
    epoch -= cycle.start
    if epoch < recipe.warmup_epochs:
        return recipe.warmup_lr
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "cosine":
        return recipe.lr / 2 * (1 + math.cos(math.pi * (epoch - recipe.warmup_epochs) / cycle.length))
    warm = recipe.warmup_epochs * steps
    done = (epoch * steps + step - warm) / (cycle.length * steps - warm)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) / 2 * (1 + math.cos(math.pi * done))

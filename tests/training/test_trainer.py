"""One optimiser step, whatever the order in which tensors lie in memory."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vlmadapt.core.recipe import Precision, Recipe
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.trainer import StepTrainer

RECIPES = {
    "adamw": Recipe(optimizer="adamw", lr=0.1, weight_decay=0.1),
    "sgd": Recipe(optimizer="sgd", lr=0.1, weight_decay=0.1, momentum=0.9),
}
STEPS = 3


class Matrix(nn.Module):
    """A trained matrix (3, 4), in the order of its rows in memory or of its columns."""

    whole_batch = False

    def __init__(self, by_columns: bool):
        super().__init__()
        start = torch.arange(12.0).reshape(3, 4)
        self.weight = nn.Parameter(start.T.contiguous().T if by_columns else start)


def trainer_of(module: nn.Module, recipe: Recipe) -> StepTrainer:
    return StepTrainer(cast(Any, module), recipe, cast(Accelerator, OneProcess()))


def gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator) for _ in range(STEPS)]


def plainly_trained(recipe: Recipe) -> Tensor:
    """By torch's plain optimiser, which is not fused."""
    weight = nn.Parameter(Matrix(False).weight.detach())
    kind: Any = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.SGD
    extra: Any = {} if recipe.optimizer == "adamw" else {"momentum": recipe.momentum}
    optimizer = kind([weight], lr=recipe.lr, weight_decay=recipe.weight_decay, fused=False, foreach=False, **extra)
    for gradient in gradients():
        weight.grad = gradient
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("gradient_by_columns", [False, True])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_gradient_meets_its_own_weights(name: str, by_columns: bool, gradient_by_columns: bool) -> None:
    """Torch's fused optimisers on a CPU pair them by place in memory, without an error."""
    module = Matrix(by_columns)
    trainer = trainer_of(module, RECIPES[name])
    for gradient in gradients():
        trainer.apply([gradient.T.contiguous().T if gradient_by_columns else gradient.clone()])
    torch.testing.assert_close(module.weight.detach(), plainly_trained(RECIPES[name]))


@pytest.mark.parametrize("name", RECIPES)
def test_a_restored_moment_meets_its_own_weights(name: str) -> None:
    """A state file holds tensors row by row."""
    first = Matrix(by_columns=True)
    before = trainer_of(first, RECIPES[name])
    *most, last = gradients()
    for gradient in most:
        before.apply([gradient])
    state = {0: {k: v.contiguous() for k, v in before.optimizer.state[first.weight].items()}}
    resumed = Matrix(by_columns=True)
    resumed.load_state_dict(first.state_dict())
    after = trainer_of(resumed, RECIPES[name])
    after.load(state, {})
    after.apply([last])
    torch.testing.assert_close(resumed.weight.detach(), plainly_trained(RECIPES[name]))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gradient_that_is_one_value_for_all_weights(precision: Precision) -> None:
    """That of a sum: torch gives one value in memory for the whole matrix."""
    module = Matrix(by_columns=False)
    before = module.weight.detach().clone()
    recipe = Recipe(optimizer="sgd", lr=0.1, weight_decay=0.0, momentum=0.0, precision=precision)
    trainer_of(module, recipe).backward_and_step(module.weight.sum())
    torch.testing.assert_close(module.weight.detach(), before - 0.1)


class Sum(nn.Module):
    """Two trained matrices that are added."""

    whole_batch = False

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(3, 4))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_parameters_that_are_added(precision: Precision) -> None:
    """Torch gives both one tensor as their gradient, which a loss scale was taken from twice."""
    module, (weight, *_) = Sum(), gradients()
    recipe = Recipe(optimizer="sgd", lr=0.1, weight_decay=0.0, momentum=0.0, precision=precision)
    trainer = trainer_of(module, recipe)
    of_first, of_second = trainer.gradients(((module.first + module.second) * weight).sum())
    assert of_first is not None
    assert of_second is not None
    assert of_first.data_ptr() != of_second.data_ptr()
    trainer.apply([of_first, of_second])
    for parameter in module.parameters():
        torch.testing.assert_close(parameter.detach(), -0.1 * weight)

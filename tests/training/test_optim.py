"""Learning rates and optimisers as the published settings have them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.settings import make_recipe
from vlmadapt.training.optim import learning_rate, make_optimizer

STEPS = 7


def rates(recipe: Recipe) -> list[float]:
    """The rate of each epoch, which all of its steps must have."""
    found = []
    for epoch in range(recipe.epochs):
        (rate,) = {learning_rate(recipe, epoch, step, STEPS) for step in range(STEPS)}
        found.append(rate)
    return found


def rounded(expected: str) -> object:
    """A rate that is printed like this: right to half of the last digit."""
    mantissa, exponent = expected.split("e")
    digits = len(mantissa.partition(".")[2])
    return pytest.approx(float(expected), abs=0.5 * 10 ** (int(exponent) - digits))


@pytest.mark.parametrize(
    ("lr", "epochs", "first", "last"),
    [
        (1e-3, 10, ["1e-3", "9.76e-4", "9.05e-4", "7.94e-4", "6.55e-4"], "9.55e-5"),  # MMRL, MMRL++ base-to-novel
        (1e-3, 5, ["1e-3", "9.05e-4", "6.55e-4", "3.45e-4"], "3.45e-4"),  # the same on ImageNet
        (3.5e-3, 5, ["3.5e-3", "3.17e-3", "2.29e-3", "1.21e-3"], "1.21e-3"),  # MaPLe base-to-novel
        (2.6e-3, 2, ["2.6e-3"], "2.6e-3"),  # MaPLe cross-dataset
        (2.5e-3, 20, ["2.5e-3", "2.485e-3", "2.44e-3"], "6.1e-5"),  # PromptSRC base-to-novel
    ],
)
def test_the_cosine_changes_once_an_epoch_after_one_at_the_warm_up_rate(
    lr: float, epochs: int, first: list[str], last: str
) -> None:
    found = rates(Recipe(lr=lr, epochs=epochs))
    assert found[0] == 1e-5
    assert found[1] == lr
    for rate, expected in zip(found[1:], first, strict=False):
        assert rate == rounded(expected)
    assert found[-1] == rounded(last)


def test_without_warm_up_a_single_epoch_has_the_whole_rate() -> None:
    assert rates(Recipe(lr=1e-3, epochs=1, warmup_epochs=0)) == [1e-3]


@pytest.mark.parametrize("schedule", ["cosine", "cosine-step"])
def test_each_cycle_has_the_schedule_of_a_training_of_its_length(schedule: Literal["cosine", "cosine-step"]) -> None:
    settings = Recipe(lr=1.0, schedule=schedule, warmup_epochs=0)
    both = replace(settings, epochs=5, cycles=(0.6, 0.4))
    rates = [learning_rate(both, epoch, step, 4) for epoch in range(5) for step in range(4)]
    alone = [
        learning_rate(replace(settings, epochs=epochs), epoch, step, 4)
        for epochs in (3, 2)
        for epoch in range(epochs)
        for step in range(4)
    ]
    assert rates == pytest.approx(alone)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert rates(Recipe(lr=1e-3, epochs=3, schedule="constant")) == [1e-5, 1e-3, 1e-3]


def test_the_cosine_by_steps_falls_from_the_rate_towards_the_final_one() -> None:
    recipe = Recipe(lr=1.0, final_lr=0.2, epochs=4, warmup_epochs=1, warmup_lr=0.1, schedule="cosine-step")
    assert {learning_rate(recipe, 0, step, STEPS) for step in range(STEPS)} == {0.1}
    found = [learning_rate(recipe, epoch, step, STEPS) for epoch in range(1, 4) for step in range(STEPS)]
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    assert found[-1] == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi * 20 / 21)))


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_an_optimiser_gets_the_settings_of_the_recipe(name: str, kind: type[torch.optim.Optimizer]) -> None:
    recipe = make_recipe(Recipe(), {"optimizer": name, "lr": 0.3, "weight_decay": 0.01, "momentum": 0.8, "eps": 1e-3})
    optimizer = make_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.01)
    if name == "sgd":
        assert (group["momentum"], group["dampening"], group["nesterov"]) == (0.8, 0, False)
    else:
        assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown training setting 'epoch'. Did you mean 'epochs'?"),
        ({"epochs": -1}, "train.epochs is -1, it cannot be below 0"),
        ({"batch_size": 0}, "train.batch_size is 0, it cannot be below 1"),
        ({"lr": -1e-3}, "train.lr is -0.001, it cannot be below 0"),
        ({"momentum": -1.0}, "train.momentum is -1.0, it cannot be below 0"),
        ({"betas": [0.9, 1.0]}, "train.betas are (0.9, 1.0); both have to be at least 0 and below 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(VlmadaptError) as refused:
        make_recipe(Recipe(), changes)
    assert message in str(refused.value)

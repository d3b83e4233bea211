from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from vlmadapt.core.trained_copy import decay_copies_to_zero, trained_copy_of
from vlmadapt.plugin import IMAGE, Backbone, Hook, Method, Recipe, Task, TrainedCopy, head
from vlmadapt.testing import MethodUnderTest, run_checks
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.optim import make_optimizer
from vlmadapt.training.trainer import StepTrainer


@dataclass
class Options:
    """Options."""


class Projects(Method):
    """CLIP's image projection, trained as a difference."""

    Config = Options
    recipe = Recipe(optimizer="sgd", lr=0.01, epochs=1, weight_decay=0.5)
    touches = (IMAGE,)
    api_version = 2

    def build(self, backbone: Backbone, task: Task) -> None:
        self.projection = TrainedCopy(lambda: backbone.image.projection)

    def hooks(self) -> Iterable[Hook]:
        yield head(IMAGE, "pooled", project=self.projection())


def test_a_trained_copy_saves_its_difference_and_leaves_the_backbone_as_it_is() -> None:
    tested = MethodUnderTest(Projects)
    frozen = tested.backbone.image.projection
    assert torch.equal(tested.build().projection(), frozen)
    trained = tested.trained.method
    assert set(trained.state_dict()) == {"projection.difference"}
    assert trained.projection.difference.any()
    assert torch.equal(trained.projection(), frozen + trained.projection.difference)
    assert all(result.ok for result in run_checks(tested, quick=True))


def test_weight_decay_pulls_a_trained_copy_to_the_frozen_tensor() -> None:
    copied = TrainedCopy(lambda: torch.ones(3))
    copied.difference.data.fill_(2.0)
    copied.difference.grad = torch.zeros(3)
    torch.optim.SGD(copied.parameters(), lr=0.5, weight_decay=1.0).step()
    assert torch.equal(copied(), torch.full((3,), 2.0)), "half of the difference is left"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_with_decay_to_zero_every_step_is_that_of_a_plain_copy(optimizer: Any) -> None:
    torch.manual_seed(0)
    frozen, recipe = torch.randn(200), Recipe(optimizer=optimizer, lr=0.05, weight_decay=0.3)
    plain: Any = nn.ParameterList([frozen.clone()])
    copied: Any = TrainedCopy(lambda: frozen, decay_to_zero=True)
    plain.whole_batch = copied.whole_batch = False
    of_plain, of_copy = (StepTrainer(m, recipe, cast(Accelerator, OneProcess())) for m in (plain, copied))
    for _ in range(20):
        gradient = torch.randn(200)
        of_plain.apply([gradient.clone()]), of_copy.apply([gradient])
    torch.testing.assert_close(copied(), plain[0], rtol=1e-6, atol=1e-6)
    assert (copied() - frozen).abs().mean() > 0.1
    before = copied().clone()
    of_copy.apply([torch.full((200,), torch.inf)])
    assert torch.equal(copied(), before), "a step that is skipped changes nothing"


def test_a_copy_that_takes_no_part_in_a_step_stays_as_it_is() -> None:
    copied = TrainedCopy(lambda: torch.full((3,), 0.7), decay_to_zero=True)
    copied.difference.data.fill_(1e-9)
    optimizer = make_optimizer(Recipe(weight_decay=0.5), copied.parameters())
    decay_copies_to_zero(optimizer, [copied])
    optimizer.step()
    assert torch.equal(copied.difference, torch.full((3,), 1e-9))


def test_a_module_is_copied_with_all_its_parts() -> None:
    frozen = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4)).requires_grad_(False)
    copied, x = trained_copy_of(lambda: frozen), torch.randn(2, 3)
    assert torch.equal(copied(x), frozen(x))
    assert {name for name, _ in copied.named_parameters()} == {
        f"{part}.copies.{tensor}.difference" for part in (0, 2) for tensor in ("weight", "bias")
    }
    with torch.no_grad():
        copied.get_parameter("0.copies.bias.difference").fill_(1.0)
        expected = frozen[2](frozen[1](frozen[0](x) + 1))
    torch.testing.assert_close(copied(x), expected)
    copied(x).sum().backward()
    assert all(parameter.grad is not None for parameter in copied.parameters())

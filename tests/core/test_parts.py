from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from vlmadapt.plugin import IMAGE, Backbone, Hook, Method, Recipe, Task, TrainedCopy, head
from vlmadapt.testing import MethodUnderTest, run_checks


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

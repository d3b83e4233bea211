"""MMA (Yang et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    BLOCK,
    IMAGE,
    TEXT,
    Backbone,
    Hook,
    Method,
    Recipe,
    Task,
    adapt,
    prompt,
    zero_based,
)


@dataclass
class MMAConfig:
    """Options of MMA.

    Args:
        layers: adapted blocks of both towers, counted from 1.
        width: width r of the space that both towers share.
        scale: weight a of the branch beside a block.
        scaled_gradients: train with the published gradients, 1/a times those of the written function; without it the
            branch learns 1/a times slower.
        template: what is written for each class, whatever the data set; empty takes the data set's own.
    """

    layers: list[int] = field(default_factory=lambda: [5, 6, 7, 8, 9, 10, 11, 12])
    width: int = 32
    scale: float = 1e-3
    scaled_gradients: bool = True
    template: str = "a photo of a {}."


class ScaleGradient(torch.autograd.Function):
    """The identity; what flows back through it is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        """Tokens, unchanged."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient, scaled."""
        return gradient * ctx.factor, None


class Bottleneck(nn.Module):
    """One tower's maps into the shared space and back."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = _linear(width, bottleneck)
        self.up = _linear(bottleneck, width)

    def forward(self, x: Tensor, shared: nn.Linear) -> Tensor:
        """Tokens (..., width) -> (..., width) by way of the map that both towers share."""
        return self.up(F.relu(shared(F.relu(self.down(x)))))


class MMA(Method):
    """Multi-Modal Adapter: a bottleneck beside each upper block, with a middle map that both towers share.

    With x the input of block i, ln its own first norm, and maps D, U of each tower and S of both, all with bias:

        out = block(x) + a U relu(S relu(D ln(x)))

    The loss is the cross entropy of CLIP's logits. Official code (ZjjConan/VLM-MultiModalAdapter) does two things that
    the equation does not show: there is a relu behind S too, and the gradient is scaled by a where it leaves the branch
    towards x and by 1/a where it enters the branch, so that x receives the true gradient and the maps 1/a times theirs.
    All maps start Kaiming-normal with zero bias: the branch is small at the start, not zero.
    """

    Config = MMAConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=1.5e-3, epochs=5, batch_size=16, warmup_epochs=0)
    paper = "Yang et al., MMA: Multi-Modal Adapter for Vision-Language Models, CVPR 2024"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the maps of both towers and the shared ones, by block counted from 1."""
        c = self.config
        names = [str(index + 1) for index in zero_based(c.layers)]
        self.text = nn.ModuleDict({name: Bottleneck(backbone.text.width, c.width) for name in names})
        self.image = nn.ModuleDict({name: Bottleneck(backbone.image.width, c.width) for name in names})
        self.shared = nn.ModuleDict({name: _linear(c.width, c.width) for name in names})

    def hooks(self) -> Iterable[Hook]:
        """The branches beside the blocks of both towers."""
        if self.config.template:
            yield prompt(self.config.template)
        for side, maps in ((TEXT, self.text), (IMAGE, self.image)):
            for name, bottleneck in maps.items():
                yield adapt(side, int(name) - 1, partial(self.branch, bottleneck, self.shared[name]), BLOCK)

    def branch(self, bottleneck: nn.Module, shared: nn.Module, x: Tensor) -> Tensor:
        """What is added to a block's output, (..., width), from its normed input (..., width)."""
        a = self.config.scale
        if not self.config.scaled_gradients:
            return a * bottleneck(x, shared)
        return a * ScaleGradient.apply(bottleneck(ScaleGradient.apply(x, a), shared), 1 / a)


def _linear(source: int, target: int) -> nn.Linear:
    """A linear map with the official start."""
    linear = nn.Linear(source, target)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return linear

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
        width: width r of the bottleneck that both towers share.
        scale: weight a of the branch.
        scaled_gradients: train the branch with the published gradients, which are 1/a times those of the equation;
            without it the branch learns 1/a times slower.
        template: prompt template for every data set; empty for the data set's own.
    """

    layers: list[int] = field(default_factory=lambda: [5, 6, 7, 8, 9, 10, 11, 12])
    width: int = 32
    scale: float = 1e-3
    scaled_gradients: bool = True
    template: str = "a photo of a {}."


class ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        """Return x unchanged, any shape."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient times the factor."""
        return gradient * ctx.factor, None


class Bottleneck(nn.Module):
    """One tower's projections into the shared bottleneck and back."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = _linear(width, bottleneck)
        self.up = _linear(bottleneck, width)

    def forward(self, x: Tensor, shared: nn.Linear) -> Tensor:
        """Tokens (..., width) -> (..., width), through the linear map that both towers share."""
        return self.up(F.relu(shared(F.relu(self.down(x)))))


class MMA(Method):
    """Multi-Modal Adapter: a bottleneck parallel to each upper block, with a middle layer that both towers share.

    With x the input of a block, ln its first norm, and linear maps with bias, D and U per tower and S for both:

        out = block(x) + a U relu(S relu(D ln(x)))

    The loss is the cross entropy of CLIP's logits. Official code (ZjjConan/VLM-MultiModalAdapter) does two things that
    the equation does not show: there is a relu after S too, and the gradient is scaled by 1/a where it enters the
    branch and by a where it leaves the branch towards x, so x receives the true gradient and the maps 1/a times theirs.
    All maps are initialised Kaiming-normal with zero bias: the branch is small at the start, not zero.
    """

    Config = MMAConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=1.5e-3, epochs=5, batch_size=16, warmup_epochs=0)
    paper = "Yang et al., MMA: Multi-Modal Adapter for Vision-Language Models, CVPR 2024"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the maps of each tower and the shared ones, keyed by block counted from 1."""
        c = self.config
        names = [str(index + 1) for index in zero_based(c.layers)]
        self.text = nn.ModuleDict({name: Bottleneck(backbone.text.width, c.width) for name in names})
        self.image = nn.ModuleDict({name: Bottleneck(backbone.image.width, c.width) for name in names})
        self.shared = nn.ModuleDict({name: _linear(c.width, c.width) for name in names})

    def hooks(self) -> Iterable[Hook]:
        """The branches on the blocks of both towers, and the prompt template."""
        if self.config.template:
            yield prompt(self.config.template)
        for side, maps in ((TEXT, self.text), (IMAGE, self.image)):
            for name, bottleneck in maps.items():
                yield adapt(side, int(name) - 1, partial(self.branch, bottleneck, self.shared[name]), BLOCK)

    def branch(self, bottleneck: nn.Module, shared: nn.Module, x: Tensor) -> Tensor:
        """Normed block input (..., width) -> term added to the block's output (..., width)."""
        a = self.config.scale
        if not self.config.scaled_gradients:
            return a * bottleneck(x, shared)
        return a * ScaleGradient.apply(bottleneck(ScaleGradient.apply(x, a), shared), 1 / a)


def _linear(source: int, target: int) -> nn.Linear:
    """A linear map with the official initialisation."""
    linear = nn.Linear(source, target)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return linear

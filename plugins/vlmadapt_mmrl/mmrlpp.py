"""MMRL++ (Guo & Gu, 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, LowRank, map_each
from vlmadapt_mmrl.mmrl import MMRL, MMRLConfig, stacked


@dataclass
class MMRLppConfig(MMRLConfig):
    """Options of MMRL++, in addition to those of MMRL.

    Args:
        reg_weight: weight lambda of the distance to the frozen features.
        beta: weight of the newly mapped tokens against the previous block's output at their positions; 1 replaces them
            as MMRL does. It applies in every forward pass, evaluation included.
        rank: rank of each layer's own part of the aligners.
        projection_rank: rank of the trainable residual of the representation projection.
    """

    reg_weight: float = 1.0
    beta: float = 0.9
    rank: int = 4
    projection_rank: int = 64


class SharedResidualAligner(nn.Module):
    """Linear maps with a shared matrix W plus a low-rank residual and a bias per layer: `W + A_i B_i`, `b_i`.

    The biases are initialised as copies of one vector and the residuals to zero, so all maps start equal.
    """

    def __init__(self, source: int, width: int, layers: int, rank: int):
        super().__init__()
        start = nn.Linear(source, width)
        self.weight = start.weight
        self.biases = nn.ParameterList(nn.Parameter(start.bias.detach().clone()) for _ in range(layers))
        self.residuals = nn.ModuleList(LowRank(width, source, rank) for _ in range(layers))

    def forward(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (K, source) of each layer -> tokens (K, width) of each layer."""
        residuals = stacked(self.residuals, "a") @ stacked(self.residuals, "b")
        return map_each(sources, self.weight + residuals, torch.stack(list(self.biases)))


class MMRLpp(MMRL):
    """MMRL with fewer parameters and with tokens that blend with those of the previous layer.

    The aligners of a tower share one matrix plus a residual of rank `rank` per layer; the representation projection is
    the tower's own plus a residual of rank `projection_rank`; before each listed block but the first, tokens become

        beta F_i(R) + (1 - beta) (the previous block's output at their positions)

    Loss and routing are MMRL's. Official code: yunncheng/MMRL (`trainers/mmrlpp.py`). The published settings choose
    `beta` per data set, and in the cross-dataset protocol even per target at evaluation.
    """

    Config = MMRLppConfig
    api_version = 2
    paper = "Guo & Gu, MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning, 2025"

    def aligners(self, source: int, width: int) -> nn.Module:
        """One shared map with a low-rank residual per layer."""
        return SharedResidualAligner(source, width, len(self.layers), self.config.rank)

    def build_projection(self, backbone: Backbone) -> None:
        """Create the low-rank residual of CLIP's frozen projection, which is read from the tower and not copied."""
        self.image = backbone.image
        self.projection_residual = LowRank(self.image.width, self.image.joint, self.config.projection_rank)

    def project_representation(self, tokens: Tensor) -> Tensor:
        """The tower's own projection plus the residual, (..., width) -> (..., joint)."""
        return self.image.project(tokens) + tokens @ self.projection_residual()

    def blend(self) -> float:
        """Weight beta of the new tokens."""
        return self.config.beta

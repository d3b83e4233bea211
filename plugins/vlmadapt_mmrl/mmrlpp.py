"""MMRL++ (Guo & Gu, 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, LowRank
from vlmadapt_mmrl.mmrl import MMRL, MMRLConfig


@dataclass
class MMRLppConfig(MMRLConfig):
    """Options of MMRL++, beside those of MMRL.

    Args:
        reg_weight: weight lambda of the pull towards the frozen features.
        beta: weight of the freshly mapped tokens against what the layer before left in their places; 1 is MMRL's
            replacement. It acts in every forward pass, also when evaluating.
        rank: rank of each layer's own part of the aligners.
        projection_rank: rank of the trainable part of the representation projection.
    """

    reg_weight: float = 1.0
    beta: float = 0.9
    rank: int = 4
    projection_rank: int = 64


class SharedResidualAligner(nn.Module):
    """Maps for all layers: one shared matrix W plus a low-rank part and a bias for each, `W + A_i B_i`, `b_i`.

    The biases start as copies of one vector, the low-rank parts at zero: all maps start alike.
    """

    def __init__(self, source: int, width: int, layers: int, rank: int):
        super().__init__()
        start = nn.Linear(source, width)
        self.weight = start.weight
        self.biases = nn.ParameterList(nn.Parameter(start.bias.detach().clone()) for _ in range(layers))
        self.residuals = nn.ModuleList(LowRank(width, source, rank) for _ in range(layers))

    def forward(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (K, source) of each layer -> tokens (K, width) of each layer."""
        maps = zip(sources, self.residuals, self.biases, strict=True)
        return [F.linear(x, self.weight + residual(), bias) for x, residual, bias in maps]


class MMRLpp(MMRL):
    """MMRL with fewer parameters and tokens that remember.

    The aligners of a tower share one matrix and differ by rank `rank`; the representation projection is CLIP's own plus
    a part of rank `projection_rank`; before each listed block but the first, tokens become

        beta F_i(R) + (1 - beta) (what the block before left in their places)

    Loss and routing are MMRL's. Official code: yunncheng/MMRL (`trainers/mmrlpp.py`). The published settings choose
    `beta` by data set, in the cross-dataset protocol even for each target at evaluation.
    """

    Config = MMRLppConfig
    api_version = 2
    paper = "Guo & Gu, MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning, 2025"

    def aligners(self, source: int, width: int) -> nn.Module:
        """One shared map with a residual for each layer."""
        return SharedResidualAligner(source, width, len(self.layers), self.config.rank)

    def build_projection(self, backbone: Backbone) -> None:
        """CLIP's frozen projection plus a low-rank part."""
        self.image = backbone.image
        width, joint = self.image.projection.shape
        self.projection_residual = LowRank(width, joint, self.config.projection_rank)

    def representation_projection(self) -> Tensor:
        """(width, joint)."""
        return self.image.projection + self.projection_residual()

    def blend(self) -> float:
        """Progressive composition."""
        return self.config.beta

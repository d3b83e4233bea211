"""Projections to the joint space: their width, and the matrix and bias of those that are one linear map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LinearProjection(NamedTuple):
    """A projection that is one linear map.

    Attributes:
        matrix: (width, joint); the identity where a tower has no projection.
        bias: (joint,), None without one.
    """

    matrix: Tensor
    bias: Tensor | None = None


def joint_width(width: int, *modules: nn.Module) -> int:
    """Width of the joint space: what the last linear map of a projection gives; without any, that of the tokens."""
    maps = [part for module in modules for part in module.modules() if isinstance(part, nn.Linear)]
    return maps[-1].out_features if maps else width


def linear_projection(like: Tensor, *modules: nn.Module) -> LinearProjection | None:
    """The projection that some modules are, applied in order; None where it is more than one linear map.

    Args:
        like: a tensor (..., width) of the tower, for the type and the device of a projection that does nothing.
        modules: what is applied to the pooled token.
    """
    nothing = (nn.Sequential, nn.Identity, nn.Dropout)
    steps = [part for module in modules for part in module.modules() if not isinstance(part, nothing)]
    if not steps:
        return LinearProjection(torch.eye(like.shape[-1], dtype=like.dtype, device=like.device))
    only = steps[0]
    return LinearProjection(only.weight.T, only.bias) if len(steps) == 1 and isinstance(only, nn.Linear) else None

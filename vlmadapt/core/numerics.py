"""Arithmetic that must not be done in half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(features: Tensor) -> Tensor:
    """Features (..., width) of norm 1, in float32 or, where they are that already, float64."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)

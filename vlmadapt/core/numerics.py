"""Numerical operations that need at least float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def l2_normalize(features: Tensor) -> Tensor:
    """L2-normalise features (..., width), in float32, or in float64 where they are float64."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)

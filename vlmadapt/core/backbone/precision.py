"""Frozen weights in half precision, so that autocast does not cast them at every step.

Linear maps, attention and convolutions are stored in float16 or bfloat16; embeddings, projections and the logit scale
stay in float32. Everything runs under autocast of the same precision, which then has only activations to cast.

In float16, blocks run without autocast, their norms and residuals in float16 too (`HalfParts`), as published code for
CLIP runs them. With the 8 bits of bfloat16 small differences between features would be lost in a residual, so there
norms and residuals stay in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Reduced precisions by the name that recipes and the command line use."""

HELD = (nn.Linear, nn.MultiheadAttention, nn.Conv2d)


def fast_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Reduced precision of the frozen weights in a run; None on devices where it is not faster."""
    return DTYPES.get(name) if device.type == "cuda" else None


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of linear maps, attention and convolutions of a frozen model, in place."""
    for module in model.modules():
        if isinstance(module, HELD):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Autocast to a reduced precision; a context without effect for None.

    Casts are not cached: trained tensors change between steps, and a captured step must not refer to a cast that was
    made before it.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype, cache_enabled=False)

"""Overwrite a span of tokens in sequences, with one copy of the sequences forward and one backward.

Taking the sequences apart and joining them again gives the same tokens and gradients, but on a GPU `torch.cat` copies
what is not contiguous value by value, which takes four times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def overwrite(x: Tensor, new: Tensor, start: int, blend: float = 1.0) -> Tensor:
    """Sequences (..., T, width) with `blend * new + (1 - blend) * x` at the n positions from `start` on.

    Args:
        x: the sequences.
        new: tokens (..., n, width) of the same sequences.
        start: position of the first of them.
        blend: their weight; 1 replaces what was there.
    """
    if torch.is_grad_enabled() and (x.requires_grad or new.requires_grad):
        overwritten: Tensor = _Overwrite.apply(x, new, start, blend)
        return overwritten
    return _overwritten(x, new, start, blend)


def _overwritten(x: Tensor, new: Tensor, start: int, blend: float) -> Tensor:
    out = x.clone(memory_format=torch.contiguous_format)
    span = out.narrow(-2, start, new.shape[-2])
    if blend == 1.0:
        span.copy_(new)
    else:
        span.mul_(1.0 - blend).add_(new, alpha=blend)
    return out


class _Overwrite(torch.autograd.Function):
    """The gradient of the sequences is that of the result, overwritten by zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, new: Tensor, start: int, blend: float) -> Tensor:
        ctx.start, ctx.length, ctx.blend = start, new.shape[-2], blend
        return _overwritten(x, new, start, blend)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_x = of_new = None
        span = grad.narrow(-2, ctx.start, ctx.length)
        if ctx.needs_input_grad[0]:
            of_x = overwrite(grad, grad.new_zeros(()).expand_as(span), ctx.start, ctx.blend)
        if ctx.needs_input_grad[1]:
            of_new = span if ctx.blend == 1.0 else span * ctx.blend
        return of_x, of_new, None, None

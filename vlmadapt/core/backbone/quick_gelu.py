"""MLPs with QuickGELU, the activation of OpenAI's CLIP, with one pass over their hidden layer instead of three.

    QuickGELU(h) = h sigmoid(a h) = SiLU(a h) / a,  a = 1.702

The factor a joins the first matrix product and 1 / a the second one, where they cost nothing. In the backward pass they
cancel: it needs a h alone, so half the memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

FACTOR = 1.702


class QuickGeluMlp:
    """A frozen MLP `second(QuickGELU(first(x)))`.

    Args:
        first: linear map to the hidden layer, with a bias.
        second: linear map from it, with a bias.
    """

    def __init__(self, first: nn.Linear, second: nn.Linear):
        self._first, self._second = first, second

    @classmethod
    def of(cls, first: Any, activation: Any, second: Any) -> QuickGeluMlp | None:
        """The MLP of three modules; None if they are of other kinds."""
        linear = all(type(m) is nn.Linear and m.bias is not None for m in (first, second))
        return cls(first, second) if linear and type(activation) is QuickGELU else None

    @property
    def trained(self) -> bool:
        """Whether gradients of its weights are needed, too."""
        return any(p.requires_grad for m in (self._first, self._second) for p in m.parameters())

    def __call__(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        rows = x.flatten(0, -2)
        if torch.is_grad_enabled() and x.requires_grad:
            out: Tensor = _FrozenMlp.apply(rows, self)
        else:
            out = self.rest(self.scaled_hidden(rows))
        return out.unflatten(0, x.shape[:-1])

    def scaled_hidden(self, rows: Tensor) -> Tensor:
        """a h of rows (n, width), (n, hidden width)."""
        bias: Tensor = self._first.bias
        device = rows.device.type
        if torch.is_autocast_enabled(device):  # as weights that are held in this precision
            bias = bias.to(torch.get_autocast_dtype(device))
        return torch.addmm(FACTOR * bias, rows, self._first.weight.T, alpha=FACTOR)

    def rest(self, scaled: Tensor) -> Tensor:
        """a h (n, hidden width) -> (n, width)."""
        return torch.addmm(self._second.bias, F.silu(scaled), self._second.weight.T, alpha=1 / FACTOR)

    def gradient(self, grad: Tensor, scaled: Tensor) -> Tensor:
        """Gradient (n, width) of the rows from that of the output, (n, width)."""
        hidden = grad @ self._second.weight.to(grad.dtype)
        hidden = torch.ops.aten.silu_backward(hidden, scaled.to(grad.dtype))
        return hidden @ self._first.weight.to(grad.dtype)


class _FrozenMlp(torch.autograd.Function):
    """`QuickGeluMlp` with gradients of its input alone."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mlp: QuickGeluMlp) -> Tensor:
        ctx.mlp = mlp
        scaled = mlp.scaled_hidden(rows)
        ctx.save_for_backward(rows, scaled)
        return mlp.rest(scaled)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rows, scaled = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients that are differentiated again
            out = ctx.mlp.rest(ctx.mlp.scaled_hidden(rows))
            return torch.autograd.grad(out, rows, grad, create_graph=True)[0], None
        return ctx.mlp.gradient(grad, scaled).to(rows.dtype), None

"""Optional torch.compile of block parts; results are the same up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone.block_parts import BlockParts


class CompiledParts:
    """A view of a block whose parts are compiled when they are first used.

    Shapes are dynamic: class lists and batches differ, and a part compiled for one serves the others. What acts on
    single heads is small and stays as it is.
    """

    def __init__(self, parts: BlockParts):
        self.module, self.heads, self.scale = parts.module, parts.heads, parts.scale
        self.norms, self.post_norm, self.in_float16 = parts.norms, parts.post_norm, parts.in_float16
        self.norm1 = _compiled(parts.norm1)
        self.query = _compiled(parts.query)
        self.key_value = _compiled(parts.key_value)
        self.query_key_value = _compiled(parts.query_key_value)
        self.query_norm, self.key_norm = parts.query_norm, parts.key_norm
        self.rotary, self.rotate = parts.rotary, parts.rotate
        self.position_bias = parts.position_bias
        self.inner_norm = _compiled(parts.inner_norm)
        self.output = _compiled(parts.output)
        self.post_norm1 = _compiled(parts.post_norm1)
        self.norm2 = _compiled(parts.norm2)
        self.mlp = _compiled(parts.mlp)
        self.mlp_maps = parts.mlp_maps
        self.post_norm2 = _compiled(parts.post_norm2)


def _compiled(part: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """A part that is compiled for rows (n, width), so that one compilation serves tokens of all shapes (..., width).

    Torch compiles at most eight variants of a part of all blocks together, and runs further ones as they are.
    """
    of_rows = torch.compile(part, dynamic=True)

    def run(x: Tensor) -> Any:
        found = of_rows(x.flatten(0, -2))
        shape = x.shape[:-1]
        return tuple(y.unflatten(0, shape) for y in found) if isinstance(found, tuple) else found.unflatten(0, shape)

    return run

"""Optional torch.compile of block parts; results are the same up to rounding."""

from __future__ import annotations

import torch

from vlmadapt.core.backbone.block_parts import BlockParts


class CompiledParts:
    """A view of a block whose parts are compiled when they are first used.

    Shapes are dynamic: class lists and batches differ, and a part compiled for one serves the others. What acts on
    single heads is small and stays as it is.
    """

    def __init__(self, parts: BlockParts):
        self.module, self.heads, self.scale = parts.module, parts.heads, parts.scale
        self.norms, self.post_norm, self.in_float16 = parts.norms, parts.post_norm, parts.in_float16
        self.norm1 = torch.compile(parts.norm1, dynamic=True)
        self.query = torch.compile(parts.query, dynamic=True)
        self.key_value = torch.compile(parts.key_value, dynamic=True)
        self.query_key_value = torch.compile(parts.query_key_value, dynamic=True)
        self.query_norm, self.key_norm = parts.query_norm, parts.key_norm
        self.rotary, self.rotate = parts.rotary, parts.rotate
        self.position_bias = parts.position_bias
        self.inner_norm = torch.compile(parts.inner_norm, dynamic=True)
        self.output = torch.compile(parts.output, dynamic=True)
        self.post_norm1 = torch.compile(parts.post_norm1, dynamic=True)
        self.norm2 = torch.compile(parts.norm2, dynamic=True)
        self.mlp = torch.compile(parts.mlp, dynamic=True)
        self.mlp_maps = parts.mlp_maps
        self.post_norm2 = torch.compile(parts.post_norm2, dynamic=True)

"""Blocks whose parts torch compiles: an option, with the same numbers up to rounding."""

from __future__ import annotations

import torch

from vlmadapt.core.backbone.block_parts import BlockParts


class CompiledParts(BlockParts):
    """A view of a block whose parts are compiled when they are first used.

    Shapes are dynamic: class lists and batches differ, and a part compiled for one serves the others. What acts on
    single heads is not compiled.
    """

    def __init__(self, parts: BlockParts):
        self.heads = parts.heads
        for name in ("norm1", "query", "key_value", "query_key_value", "inner_norm", "output", "norm2", "mlp"):
            setattr(self, name, torch.compile(getattr(parts, name), dynamic=True))
        for name in ("query_norm", "key_norm", "rotary", "rotate"):
            setattr(self, name, getattr(parts, name))

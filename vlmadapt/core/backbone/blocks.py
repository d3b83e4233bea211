"""Views of a transformer block's parts, one small class per block family; here open_clip's own.

A view calls the block's own modules and weights; nothing is patched and nothing is copied. `core/block.py` runs the
parts, all of them or only those that affect the result.
"""

from __future__ import annotations

from typing import Any

import open_clip.transformer
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts, MlpMaps
from vlmadapt.core.backbone.quick_gelu import QuickGeluMlp
from vlmadapt.core.backbone.timm_blocks import timm_view
from vlmadapt.core.backbone.transformers_blocks import transformers_view

__all__ = ["BlockParts", "ResidualAttentionBlock", "view", "views"]

PARTS_OF_MLP = ["c_fc", "gelu", "c_proj"]
"""Names of an MLP's modules, in their order."""


class ResidualAttentionBlock(BlockParts):
    """open_clip's `ResidualAttentionBlock` (all its native CLIP towers)."""

    def __init__(self, block: Any):
        self._block = self.module = block
        self._attention = block.attn
        self.heads: int = block.attn.num_heads
        self.norms = (block.ln_1, block.ln_2)
        self._quick_gelu = quick_gelu_mlp(block.mlp)

    def norm1(self, x: Tensor) -> Tensor:
        return self._block.ln_1(x)

    def query(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        return F.linear(x, self._attention.in_proj_weight[:width], self._attention.in_proj_bias[:width])

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        width = x.shape[-1]
        joined = F.linear(x, self._attention.in_proj_weight[width:], self._attention.in_proj_bias[width:])
        key, value = joined.chunk(2, dim=-1)
        return key, value

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = F.linear(x, self._attention.in_proj_weight, self._attention.in_proj_bias)
        query, key, value = joined.chunk(3, dim=-1)
        return query, key, value

    def output(self, x: Tensor) -> Tensor:
        return self._block.ls_1(self._attention.out_proj(x))

    def norm2(self, x: Tensor) -> Tensor:
        return self._block.ln_2(x)

    def mlp(self, x: Tensor) -> Tensor:
        fused = self._quick_gelu if not torch.compiler.is_compiling() else None  # which fuses by itself
        return self._block.ls_2(self._block.mlp(x) if fused is None or fused.trained else fused(x))

    def mlp_maps(self) -> MlpMaps | None:
        mlp, scale = self._block.mlp, self._block.ls_2
        if [name for name, _ in mlp.named_children()] != PARTS_OF_MLP:
            return None
        return MlpMaps(mlp.c_fc, lambda hidden: scale(mlp.c_proj(mlp.gelu(hidden))), mlp.c_fc.out_features)


def quick_gelu_mlp(mlp: Any) -> QuickGeluMlp | None:
    """A block's MLP, if its activation is QuickGELU."""
    if [name for name, _ in mlp.named_children()] != PARTS_OF_MLP:
        return None
    return QuickGeluMlp.of(mlp.c_fc, mlp.gelu, mlp.c_proj)


def view(block: nn.Module) -> BlockParts | None:
    """View of a block, or None if its class is not supported."""
    if type(block) is open_clip.transformer.ResidualAttentionBlock and not hasattr(block, "ln_1_kv"):
        return ResidualAttentionBlock(block)
    return timm_view(block) or transformers_view(block)


def views(blocks: nn.ModuleList) -> tuple[BlockParts, ...] | None:
    """Views of all blocks of a tower, or None if the class of one of them is not supported."""
    found = [view(block) for block in blocks]
    return None if None in found else tuple(b for b in found if b is not None)

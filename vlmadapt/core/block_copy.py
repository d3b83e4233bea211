"""A trained copy of a whole transformer block, in the place of the frozen one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.hooks import (
    ATTENTION,
    KEY,
    MLP,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    QUERY,
    VALUE,
    BlockAdapter,
    adapt,
)
from vlmadapt.core.side import Side
from vlmadapt.core.trained_copy import trained_copy_of
from vlmadapt.errors import BackboneError


class BlockCopy(nn.Module):
    """A trained copy of a block: fine-tuning of the upper blocks, of which the differences are trained and saved.

        self.top = nn.ModuleList(BlockCopy(backbone, IMAGE, layer) for layer in (10, 11))  # build
        for block in self.top:  # hooks
            yield from block.hooks()

    Each part of the frozen block is computed too, and its output replaced.

    Args:
        backbone: the frozen backbone.
        side: the tower.
        layer: the block, counted from 0.
        decay_to_zero: as in `TrainedCopy`.

    Raises:
        BackboneError: the block is none of open_clip's own, or has layer scales.
    """

    def __init__(self, backbone: Backbone, side: Side, layer: int, decay_to_zero: bool = False):
        super().__init__()
        tower = backbone.tower(side)
        self.side, self.layer = side, layer
        block: Any = tower.blocks[layer].module
        if type(block) is not ResidualAttentionBlock or not _without_scales(block):
            raise BackboneError(
                f"whole blocks can be trained in open_clip's own CLIP towers without layer scales, not in the {side} "
                f"tower of this backbone ({tower.family}); choose one such as ViT-B-16:openai."
            )
        self.block: Any = trained_copy_of(lambda: tower.blocks[layer].module, decay_to_zero)

    def hooks(self) -> Iterator[BlockAdapter]:
        """The parts of the copy in the places of the frozen block's."""
        block = self.block
        branches = {
            NEXT_TO_NORM1: block.ln_1,
            QUERY: partial(_input_map, block.attn, 0),
            KEY: partial(_input_map, block.attn, 1),
            VALUE: partial(_input_map, block.attn, 2),
            ATTENTION: block.attn.out_proj,
            NEXT_TO_NORM2: block.ln_2,
            MLP: block.mlp,
        }
        for site, branch in branches.items():
            yield adapt(self.side, self.layer, branch, site, replace=True)


def _without_scales(block: Any) -> bool:
    return isinstance(block.ls_1, nn.Identity) and isinstance(block.ls_2, nn.Identity)


def _input_map(attention: Any, which: int, x: Tensor) -> Tensor:
    """Queries, keys or values (..., width), for `which` 0, 1 or 2, of normed tokens (..., width)."""
    width = attention.embed_dim
    rows = slice(which * width, (which + 1) * width)
    return F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])

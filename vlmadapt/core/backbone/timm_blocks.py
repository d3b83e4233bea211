"""Views of timm's blocks: of its ViT (SigLIP, MobileCLIP, ViTamin), of EVA and PE, and with relative positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention, AttentionRope
from timm.layers.mlp import Mlp
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from timm.models.vision_transformer_relpos import RelPosAttention, RelPosBlock, ResPostRelPosBlock
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts, MlpMaps


class TimmAttentionParts(BlockParts):
    """What timm's blocks have in common: joined or separate query, key and value maps, norms of heads, sub-norm."""

    def __init__(self, block: Any):
        self._block = self.module = block
        self._attention = block.attn
        self._positions: Callable[[], Tensor] | None = None
        self.heads: int = block.attn.num_heads
        self.norms: tuple[nn.Module, nn.Module] = (block.norm1, block.norm2)

    def set_rotary(self, positions: Callable[[], Tensor]) -> None:
        """Take rotary positions from the tower, which moves them between devices."""
        self._positions = positions

    def rotary(self) -> Tensor | None:
        return None if self._positions is None else self._positions()

    def norm1(self, x: Tensor) -> Tensor:
        return self._block.norm1(x)

    def query(self, x: Tensor) -> Tensor:
        return self._maps(x, 0, 1)[0]

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self._maps(x, 1, 3)
        return key, value

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self._maps(x, 0, 3)
        return query, key, value

    def query_norm(self, x: Tensor) -> Tensor:
        return self._attention.q_norm(x)

    def key_norm(self, x: Tensor) -> Tensor:
        return self._attention.k_norm(x)

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        return apply_rot_embed_cat(x, angles, half=getattr(self._attention, "rotate_half", False))

    def inner_norm(self, x: Tensor) -> Tensor:
        return self._attention.norm(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self._block.norm2(x)

    def mlp(self, x: Tensor) -> Tensor:
        return self._after_mlp(self._block.mlp(x))

    def mlp_maps(self) -> MlpMaps | None:
        mlp = self._block.mlp
        if type(mlp) is not Mlp or not isinstance(mlp.fc1, nn.Linear):
            return None
        rest = nn.Sequential(mlp.act, mlp.drop1, mlp.norm, mlp.fc2, mlp.drop2)
        return MlpMaps(mlp.fc1, lambda hidden: self._after_mlp(rest(hidden)), mlp.fc1.out_features)

    @abstractmethod
    def _after_mlp(self, x: Tensor) -> Tensor:
        """What follows the MLP before its output is added: layer scale, or a norm."""

    def _maps(self, x: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
        """Some of query, key and value, (..., width) each."""
        attention = self._attention
        if attention.qkv is None:
            return tuple(map_(x) for map_ in (attention.q_proj, attention.k_proj, attention.v_proj)[start:stop])
        width = attention.qkv.out_features // 3
        bias = self._joined_bias()
        rows = slice(start * width, stop * width)
        joined = F.linear(x, attention.qkv.weight[rows], None if bias is None else bias[rows])
        return joined.chunk(stop - start, dim=-1)

    def _joined_bias(self) -> Tensor | None:
        """The bias of the joined map; EVA stores it in three pieces, of which that of the keys is zero."""
        attention = self._attention
        if getattr(attention, "q_bias", None) is not None:
            return torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
        bias: Tensor | None = attention.qkv.bias
        return bias


class TimmBlock(TimmAttentionParts):
    """`Block`, with layer scale or without."""

    def output(self, x: Tensor) -> Tensor:
        return self._block.ls1(self._attention.proj(x))

    def _after_mlp(self, x: Tensor) -> Tensor:
        scaled: Tensor = self._block.ls2(x)
        return scaled


class TimmEvaBlock(TimmAttentionParts):
    """`EvaBlock`: layer scale as a bare parameter, rotary positions set by the tower."""

    def output(self, x: Tensor) -> Tensor:
        return _scaled(self._attention.proj(x), self._block.gamma_1)

    def _after_mlp(self, x: Tensor) -> Tensor:
        return _scaled(x, self._block.gamma_2)


class TimmPostNormBlock(TimmAttentionParts):
    """`x += norm1(attention(x)); x += norm2(mlp(x))`, so both norms belong to what is added (`EvaBlockPostNorm`)."""

    def __init__(self, block: Any):
        super().__init__(block)
        self.norms = (nn.Identity(), nn.Identity())

    def norm1(self, x: Tensor) -> Tensor:
        return x

    def output(self, x: Tensor) -> Tensor:
        return self._block.norm1(self._attention.proj(x))

    def norm2(self, x: Tensor) -> Tensor:
        return x

    def _after_mlp(self, x: Tensor) -> Tensor:
        normed: Tensor = self._block.norm2(x)
        return normed


class RelativeParts(TimmAttentionParts):
    """Attention with relative positions, of the block's own or shared by all blocks of the tower."""

    _shared: nn.Module | None = None

    def set_shared_positions(self, positions: nn.Module) -> None:
        """Take relative positions from the tower."""
        self._shared = positions

    def position_bias(self, length: int) -> Tensor | None:
        positions: Any = self._attention.rel_pos or self._shared
        return None if positions is None else positions.get_bias()[0]

    def inner_norm(self, x: Tensor) -> Tensor:
        return x


class TimmRelPosBlock(RelativeParts, TimmBlock):
    """`RelPosBlock`."""


class TimmResPostRelPosBlock(RelativeParts, TimmPostNormBlock):
    """`ResPostRelPosBlock`."""


VIEWS: dict[type[nn.Module], type[TimmAttentionParts]] = {
    Block: TimmBlock,
    EvaBlock: TimmEvaBlock,
    EvaBlockPostNorm: TimmPostNormBlock,
    RelPosBlock: TimmRelPosBlock,
    ResPostRelPosBlock: TimmResPostRelPosBlock,
}


def timm_view(block: nn.Module) -> BlockParts | None:
    """The view of a timm block, or None where the block or its attention is not one of those above."""
    view = VIEWS.get(type(block))
    return view(block) if view is not None and _is_plain(block.attn) else None


def _is_plain(attention: Any) -> bool:
    """Whether every head has its own keys and values, no gate, and together the heads are as wide as the tower."""
    return (
        type(attention) in (Attention, AttentionRope, EvaAttention, RelPosAttention)
        and getattr(attention, "gate", None) is None
        and getattr(attention, "num_kv_heads", attention.num_heads) == attention.num_heads
        and attention.proj.in_features == attention.proj.out_features
    )


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else scale * x

"""Views of timm's blocks: their parts, put together, are the block's own forward; others have no view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock
from torch import Tensor, nn

from vlmadapt.core.backbone.timm_blocks import TimmAttentionParts, timm_view

WIDTH, HEADS, GRID = 16, 2, (2, 3)
PATCHES = GRID[0] * GRID[1]

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Block(WIDTH, HEADS, qkv_bias=True),
    "no bias": lambda: Block(WIDTH, HEADS, qkv_bias=False, proj_bias=False),
    "layer scale and norms of heads": lambda: Block(WIDTH, HEADS, qkv_bias=True, qk_norm=True, init_values=0.3),
    "sub-norms": lambda: Block(WIDTH, HEADS, scale_attn_norm=True, scale_mlp_norm=True),
    "EVA": lambda: EvaBlock(WIDTH, HEADS, norm_layer=LayerNorm),
    "EVA with joined SwiGLU": lambda: EvaBlock(WIDTH, HEADS, swiglu_mlp=True, init_values=0.3),
    "EVA with separate maps and sub-norms": lambda: EvaBlock(
        WIDTH, HEADS, qkv_fused=False, swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True
    ),
    "EVA, layer scale of the attention alone": lambda: EvaBlock(
        WIDTH, HEADS, init_values=0.3, attn_only_layer_scale=True
    ),
    "PE": lambda: EvaBlock(WIDTH, HEADS, attn_type="rope", qk_norm=True, rotate_half=True),
    "EVA with norms after": lambda: EvaBlockPostNorm(WIDTH, HEADS, norm_layer=LayerNorm),
}


def drawn(make: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    block = make().double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def needs(kind: type, *options: str) -> None:
    """Skip where this release of timm has no such option yet."""
    if not set(options) <= set(signature(kind).parameters):
        pytest.skip(f"{kind.__name__} has no {', '.join(options)}")


def rope(half: bool) -> Tensor:
    options: Any = {"in_pixels": False, "feat_shape": GRID, **({"rotate_half": True} if half else {})}
    return RotaryEmbeddingCat(WIDTH // HEADS, **options).double().get_embed()


def put_together(parts: TimmAttentionParts, x: Tensor, angles: Tensor | None) -> Tensor:
    """The block, for tokens (N, T, width) that all see each other; the first token has no rotary position."""
    query, key, value = (
        t.unflatten(-1, (parts.heads, -1)).transpose(1, 2) for t in parts.query_key_value(parts.norm1(x))
    )
    query, key = parts.query_norm(query), parts.key_norm(key)
    if angles is not None:
        query, key = (torch.cat([t[:, :, :1], parts.rotate(t[:, :, 1:], angles)], dim=2) for t in (query, key))
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + parts.output(parts.inner_norm(attended))
    return x + parts.mlp(parts.norm2(x))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("rotary", [False, True])
def test_the_parts_put_together_are_the_block(name: str, rotary: bool) -> None:
    block, x = drawn(BLOCKS[name]), torch.randn(3, 1 + PATCHES, WIDTH, dtype=torch.float64)
    if rotary and isinstance(block, Block):
        pytest.skip("this block has no rotary positions")
    if rotary and name == "PE":
        needs(RotaryEmbeddingCat, "rotate_half")
    angles = rope(getattr(block.attn, "rotate_half", False)) if rotary else None
    parts = timm_view(block)
    assert isinstance(parts, TimmAttentionParts)
    expected = block(x) if angles is None else block(x, rope=angles)
    torch.testing.assert_close(put_together(parts, x, angles), expected, rtol=1e-10, atol=1e-10)
    assert parts.rotary() is None


@pytest.mark.parametrize("name", BLOCKS)
def test_both_maps_of_an_mlp_are_the_mlp_unless_it_is_gated(name: str) -> None:
    parts, x = timm_view(drawn(BLOCKS[name])), torch.randn(3, WIDTH, dtype=torch.float64)
    assert parts is not None
    maps = parts.mlp_maps()
    assert (maps is None) == ("SwiGLU" in name or "separate maps" in name)
    if maps is not None:
        torch.testing.assert_close(maps.rest(maps.first(x)), parts.mlp(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", BLOCKS)
def test_queries_alone_and_keys_and_values_alone_are_those_of_all_three(name: str) -> None:
    parts, x = timm_view(drawn(BLOCKS[name])), torch.randn(2, 5, WIDTH, dtype=torch.float64)
    assert parts is not None
    query, key, value = parts.query_key_value(x)
    torch.testing.assert_close(parts.query(x), query)
    torch.testing.assert_close(parts.key_value(x), (key, value))
    assert query.shape == key.shape == value.shape == x.shape


@pytest.mark.parametrize("name", BLOCKS)
def test_the_norms_are_the_modules_before_attention_and_mlp(name: str) -> None:
    parts, x = timm_view(drawn(BLOCKS[name])), torch.randn(2, 5, WIDTH, dtype=torch.float64)
    assert parts is not None
    torch.testing.assert_close(parts.norms[0](x), parts.norm1(x))
    torch.testing.assert_close(parts.norms[1](x), parts.norm2(x))


@pytest.mark.parametrize(
    "make",
    [
        partial(ResPostBlock, WIDTH, HEADS),
        partial(EvaBlock, WIDTH, HEADS, attn_type="rope", qkv_fused=False, num_kv_heads=1),
        partial(EvaBlock, WIDTH, HEADS, attn_head_dim=4),
        partial(EvaBlock, WIDTH, HEADS, gated_attn=True),
        partial(Block, WIDTH, HEADS, attn_layer="diff"),
    ],
    ids=["another block", "shared keys", "narrow heads", "gated", "another attention"],
)
def test_a_block_that_computes_something_else_has_no_view(make: partial[nn.Module]) -> None:
    assert isinstance(make.func, type)
    needs(make.func, *make.keywords)
    assert timm_view(make()) is None

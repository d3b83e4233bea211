"""Views of blocks: their parts, put together, are the block's own forward; other families have no view."""

from __future__ import annotations

import open_clip.transformer
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone.blocks import BlockParts, view, views

WIDTH, HEADS = 16, 2


def block(layer_scale: float | None = None) -> nn.Module:
    torch.manual_seed(0)
    made = open_clip.transformer.ResidualAttentionBlock(WIDTH, HEADS, ls_init_value=layer_scale).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def seen(module: nn.Module) -> BlockParts:
    found = view(module)
    assert found is not None
    return found


def put_together(parts: BlockParts, x: Tensor) -> Tensor:
    """The block, for tokens (N, T, width) that all see each other."""
    query, key, value = (
        t.unflatten(-1, (parts.heads, -1)).transpose(1, 2) for t in parts.query_key_value(parts.norm1(x))
    )
    x = x + parts.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    return x + parts.mlp(parts.norm2(x))


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_the_parts_put_together_are_the_block(layer_scale: float | None) -> None:
    module, x = block(layer_scale), torch.randn(3, 5, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(put_together(seen(module), x), module(x))
    assert seen(module).heads == HEADS


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_both_maps_of_an_mlp_are_the_mlp(layer_scale: float | None) -> None:
    parts, x = seen(block(layer_scale)), torch.randn(3, WIDTH, dtype=torch.float64)
    maps = parts.mlp_maps()
    assert maps is not None
    assert maps.first(x).shape == (3, maps.width) == (3, 4 * WIDTH)
    torch.testing.assert_close(maps.rest(maps.first(x)), parts.mlp(x))


def test_queries_alone_and_keys_and_values_alone_are_those_of_all_three() -> None:
    parts, x = seen(block()), torch.randn(3, 5, WIDTH, dtype=torch.float64)
    query, key, value = parts.query_key_value(x)
    torch.testing.assert_close(parts.query(x), query)
    torch.testing.assert_close(parts.key_value(x), (key, value))
    assert query.shape == key.shape == value.shape == x.shape


def test_a_view_uses_the_blocks_own_weights() -> None:
    module, x = block(), torch.randn(1, 2, WIDTH, dtype=torch.float64)
    parts = seen(module)
    before = parts.mlp(x)
    with torch.no_grad():
        module.mlp.c_fc.weight.mul_(2)  # type: ignore[union-attr, operator]
    assert not torch.allclose(parts.mlp(x), before)


class Renamed(open_clip.transformer.ResidualAttentionBlock):
    """A subclass may compute anything."""


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(WIDTH, WIDTH),
        nn.TransformerEncoderLayer(WIDTH, HEADS),
        Renamed(WIDTH, HEADS),
        open_clip.transformer.CustomResidualAttentionBlock(WIDTH, HEADS),
        open_clip.transformer.ResidualAttentionBlock(WIDTH, HEADS, is_cross_attention=True),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_block_of_another_family_has_no_view(module: nn.Module) -> None:
    assert view(module) is None


def test_one_unknown_block_closes_the_tower() -> None:
    assert views(nn.ModuleList([block(), nn.Linear(WIDTH, WIDTH)])) is None
    assert len(views(nn.ModuleList([block(), block()])) or ()) == 2

"""Relative positions: what attention adds to its scores, by where query and key stand in the tower (T5, timm's relpos).

    scores = scale * q . k + bias(place of q, place of k)

Places are counted among the tower's own tokens. Inserted tokens have none: nothing is added to a score from or to them,
and own tokens keep the distances that they have without them. Learned words (CONTEXT) stand in the places of words.

No tower with relative positions is causal, so that no sequence here has a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.hooks import Read
from vlmadapt.core.packing import Packing


def bucket_biases(block: BlockParts, packing: Packing, like: Tensor) -> list[Tensor | None]:
    """What is added to the scores of each bucket, (1, heads, queries, keys); None for nothing.

    Args:
        block: the block that attends.
        packing: how its sequences go through it.
        like: values, for the type and the device.
    """
    table = _table(block, packing, like)
    if table is None:
        return [None] * len(packing.buckets)
    places = packing.places(like.device)
    keys = [places.index_select(0, bucket.keys).repeat(bucket.together) for bucket in packing.buckets]
    return [_picked(table, key[None], key) for key in keys]


def read_biases(block: BlockParts, packing: Packing, reads: Iterable[Read | str], like: Tensor) -> list[Tensor | None]:
    """The same for the tokens that are read alone, (n|1, heads, tokens read, keys): they may differ by sequence."""
    table = _table(block, packing, like)
    if table is None:
        return [None] * len(packing.buckets)
    places = packing.places(like.device)
    read = packing.read_places(reads, like.device)
    return [
        _picked(table, bucket.select_rows(read), places.index_select(0, bucket.keys).repeat(bucket.together))
        for bucket in packing.buckets
    ]


def _table(block: BlockParts, packing: Packing, like: Tensor) -> Tensor | None:
    """(heads, 1 + T, 1 + T) for the tower's T own tokens, with zeros in front for inserted ones."""
    bias = block.position_bias(packing.map.own_length)
    return None if bias is None else F.pad(bias.to(like.dtype), (1, 0, 1, 0))


def _picked(table: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """The entries (n, heads, q, k) of queries at places (n, q) for keys at places (k,)."""
    lines = table.index_select(1, queries.flatten()).index_select(2, keys)
    return lines.unflatten(1, queries.shape).transpose(0, 1)

"""Running one transformer block on rows, whole or only for the tokens that will be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.backbone.blocks import BlockParts
from vlmadapt.core.hooks import ATTENTION, BLOCK, KEY, MLP, QUERY, VALUE, Adapter, Read, Site
from vlmadapt.core.layout import Bucket, Layout
from vlmadapt.core.rows import Rows

Mask = Tensor | None


def run_block(block: BlockParts, rows: Rows, layout: Layout, adapters: Sequence[Adapter]) -> Rows:
    """All tokens through a block.

    The shared prefix goes through once; every row's own tokens attend to its keys and values. Linear maps see the
    shared tokens and the own ones of all buckets side by side.
    """
    prefix = rows.prefix
    tokens = _side_by_side(rows, layout)
    normed = block.norm1(tokens)
    parts = [_by_bucket(x, prefix, layout) for x in _query_key_value(block, normed, adapters)]
    (query, *own_queries), (key, *own_keys), (value, *own_values) = parts
    attended = [
        _attend(block, q, _before(key, k), _before(value, v), bucket.mask).flatten(1, 2)
        for q, k, v, bucket in zip(own_queries, own_keys, own_values, layout.buckets, strict=True)
    ]
    if prefix:
        # What stands in the shared prefix sees the same in every row.
        mask = layout.mask if layout.mask is None or layout.mask.ndim == 2 else layout.mask[0]
        attended.insert(0, _attend(block, query, key, value, None if mask is None else mask[:prefix, :prefix]))
    out = _finish(block, tokens, normed, torch.cat(attended, dim=1), adapters)
    return replace(rows, shared=out[:, :prefix], own=_laid_out(out[:, prefix:], rows, layout))


def run_last_block(
    block: BlockParts, rows: Rows, layout: Layout, adapters: Sequence[Adapter], reads: Iterable[Read | str]
) -> dict[Read | str, Tensor]:
    """Only the tokens that are read through the last block; the others lend their keys and values.

    Returns:
        The block's output (G, N, n, width) for each of `reads`.
    """
    wanted = {read: _read(rows, read) for read in reads}
    groups = max(tokens.shape[0] for tokens in wanted.values())
    tokens = torch.cat([t.expand(groups, rows.own.shape[1], -1, -1) for t in wanted.values()], dim=2)
    lent = _key_value(block, block.norm1(_side_by_side(rows, layout)), adapters)
    (key, *own_keys), (value, *own_values) = (_by_bucket(x, rows.prefix, layout) for x in lent)
    normed = block.norm1(tokens)
    query = block.query(normed) + _branches(adapters, QUERY, normed)
    mask = _read_mask(rows, layout.mask, wanted)
    attended = [
        _attend(block, _rows_of(bucket, query), _before(key, k), _before(value, v), bucket.lines(mask))
        for k, v, bucket in zip(own_keys, own_values, layout.buckets, strict=True)
    ]
    joined, order = torch.cat(attended, dim=1), layout.order
    out = _finish(block, tokens, normed, joined if order is None else joined[:, order], adapters)
    return dict(zip(wanted, out.split([t.shape[2] for t in wanted.values()], dim=2), strict=True))


def _by_bucket(x: Tensor, prefix: int, layout: Layout) -> list[Tensor]:
    """What belongs to the shared tokens (G, P, width), and to each bucket's own ones (G, n, s, width)."""
    shared, *own = x.split([prefix, *(bucket.size for bucket in layout.buckets)], dim=1)
    return [shared, *(part.unflatten(1, bucket.shape) for part, bucket in zip(own, layout.buckets, strict=True))]


def _rows_of(bucket: Bucket, x: Tensor) -> Tensor:
    """A bucket's rows of (G, N, n, width)."""
    return x if bucket.rows is None else x[:, bucket.rows]


def _side_by_side(rows: Rows, layout: Layout) -> Tensor:
    """Shared tokens and the own ones that are computed, bucket by bucket, (G, P + M, width)."""
    own = rows.own.flatten(1, 2)
    own = own if layout.real is None else own.index_select(1, layout.real)
    if not rows.prefix:
        return own
    groups = max(rows.shared.shape[0], own.shape[0])
    return torch.cat([rows.shared.expand(groups, -1, -1), own.expand(groups, -1, -1)], dim=1)


def _laid_out(packed: Tensor, rows: Rows, layout: Layout) -> Tensor:
    """Own tokens (G, M, width) in rows (G, N, S, width), zeros for padding."""
    n, s = rows.own.shape[1:3]
    if layout.real is None:
        return packed.unflatten(1, (n, s))
    empty = packed.new_zeros(packed.shape[0], n * s, packed.shape[2])
    return empty.index_copy(1, layout.real, packed).unflatten(1, (n, s))


def read_rows(rows: Rows, reads: Iterable[Read | str]) -> dict[Read | str, Tensor]:
    """The tokens (G, N, n, width) that heads read, from rows that went through all blocks."""
    return {read: _read(rows, read) for read in reads}


def _read(rows: Rows, read: Read | str) -> Tensor:
    if read is Read.CLASS:
        return rows.read_end()
    return rows.whole() if read is Read.ALL else rows.read(read)


def _read_mask(rows: Rows, mask: Mask, reads: Iterable[Read | str]) -> Mask:
    """The lines of the mask (N|1, n, T) that belong to the tokens read."""
    if mask is None:
        return None
    lines = mask if mask.ndim == 3 else mask[None]
    picked = []
    for read in reads:
        places = _places(rows, read)
        index = places[:, :, None].expand(max(len(places), len(lines)), -1, lines.shape[2])
        picked.append(lines.expand(index.shape[0], -1, -1).gather(1, index))
    many = max(len(p) for p in picked)
    return torch.cat([p.expand(many, -1, -1) for p in picked], dim=1)


def _places(rows: Rows, read: Read | str) -> Tensor:
    """Places (N|1, n) in the row of the tokens read."""
    device = rows.own.device
    if read is Read.CLASS:
        return torch.zeros(1, 1, dtype=torch.long, device=device) if rows.end is None else rows.end[:, None]
    if read is Read.ALL:
        return torch.arange(rows.length, device=device)[None]
    span = rows.spans[read]
    return (
        torch.arange(span.start, span.start + span.length, device=device)[None] if span.places is None else span.places
    )


def _query_key_value(block: BlockParts, x: Tensor, adapters: Sequence[Adapter]) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = block.query_key_value(x)
    if adapters:
        query = query + _branches(adapters, QUERY, x)
        key = key + _branches(adapters, KEY, x)
        value = value + _branches(adapters, VALUE, x)
    return query, key, value


def _key_value(block: BlockParts, x: Tensor, adapters: Sequence[Adapter]) -> tuple[Tensor, Tensor]:
    key, value = block.key_value(x)
    return key + _branches(adapters, KEY, x), value + _branches(adapters, VALUE, x)


def _branches(adapters: Sequence[Adapter], site: Site, x: Tensor) -> Tensor | float:
    return sum((adapter.branch(x) for adapter in adapters if adapter.site is site), start=0.0)


def _finish(block: BlockParts, x: Tensor, normed: Tensor, attended: Tensor, adapters: Sequence[Adapter]) -> Tensor:
    """Everything behind the attention: output projection, residual, MLP, branches."""
    if not adapters:
        x = x + block.output(attended)
        return x + block.mlp(block.norm2(x))
    x = x + block.output(attended) + _branches(adapters, ATTENTION, attended)
    middle = block.norm2(x)
    return x + block.mlp(middle) + _branches(adapters, MLP, middle) + _branches(adapters, BLOCK, normed)


def _before(shared: Tensor, own: Tensor) -> Tensor:
    """Put the shared keys or values (G, P, width) before each row's own (G, N, S, width)."""
    if not shared.shape[1]:
        return own
    return torch.cat([shared[:, None].expand(-1, own.shape[1], -1, -1), own], dim=2)


def _attend(block: BlockParts, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Multi-head attention of queries (G, [N,] Tq, width) over keys and values (G, [N,] Tk, width)."""
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])

    def heads(x: Tensor) -> Tensor:
        x = x.expand(*batch, *x.shape[-2:]).reshape(-1, x.shape[-2], x.shape[-1])
        return x.unflatten(-1, (block.heads, -1)).transpose(1, 2)

    if mask is not None and mask.ndim == 3:
        mask = mask.expand(*batch, *mask.shape[-2:]).reshape(-1, 1, *mask.shape[-2:])
    out = F.scaled_dot_product_attention(heads(query), heads(key), heads(value), attn_mask=mask)
    return out.transpose(1, 2).flatten(2).unflatten(0, batch)

"""Running one transformer block on rows, whole or only for the tokens that will be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.backbone.blocks import BlockParts
from vlmadapt.core.hooks import ATTENTION, BLOCK, KEY, MLP, QUERY, VALUE, Adapter, Read, Site
from vlmadapt.core.rows import Rows

Mask = Tensor | None


def run_block(block: BlockParts, rows: Rows, mask: Mask, adapters: Sequence[Adapter]) -> Rows:
    """All tokens through a block.

    The shared prefix goes through once; every row's own tokens attend to its keys and values.
    """
    prefix = rows.prefix
    own_normed = block.norm1(rows.own)
    query, key, value = _query_key_value(block, own_normed, adapters)
    shared = rows.shared
    if prefix:
        normed = block.norm1(shared)
        q, k, v = _query_key_value(block, normed, adapters)
        key, value = _before(k, key), _before(v, value)
        # What stands in the shared prefix sees the same in every row.
        inside = _part(mask if mask is None or mask.ndim == 2 else mask[0], 0, prefix, prefix)
        shared = _finish(block, shared, normed, _attend(block, q, k, v, inside), adapters)
    attended = _attend(block, query, key, value, _part(mask, prefix, rows.length, rows.length))
    own = _finish(block, rows.own, own_normed, attended, adapters)
    return replace(rows, shared=shared, own=own)


def run_last_block(
    block: BlockParts, rows: Rows, mask: Mask, adapters: Sequence[Adapter], reads: Iterable[Read | str]
) -> dict[Read | str, Tensor]:
    """Only the tokens that are read through the last block; the others lend their keys and values.

    Returns:
        The block's output (G, N, n, width) for each of `reads`.
    """
    wanted = {read: _read(rows, read) for read in reads}
    groups = max(tokens.shape[0] for tokens in wanted.values())
    tokens = torch.cat([t.expand(groups, rows.own.shape[1], -1, -1) for t in wanted.values()], dim=2)
    key, value = _key_value(block, block.norm1(rows.own), adapters)
    if rows.prefix:
        k, v = _key_value(block, block.norm1(rows.shared), adapters)
        key, value = _before(k, key), _before(v, value)
    normed = block.norm1(tokens)
    query = block.query(normed) + _branches(adapters, QUERY, normed)
    attended = _attend(block, query, key, value, _read_mask(rows, mask, wanted))
    out = _finish(block, tokens, normed, attended, adapters)
    return dict(zip(wanted, out.split([t.shape[2] for t in wanted.values()], dim=2), strict=True))


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
    groups = max(shared.shape[0], own.shape[0])
    shared = shared[:, None].expand(groups, own.shape[1], -1, -1)
    return torch.cat([shared, own.expand(groups, -1, -1, -1)], dim=2)


def _part(mask: Mask, start: int, stop: int, keys: int) -> Mask:
    return None if mask is None else mask[..., start:stop, :keys]


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

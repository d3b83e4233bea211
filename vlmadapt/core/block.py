"""Running one transformer block on sequences, in full or only for the tokens that heads read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.hooks import (
    AFTER_ATTENTION,
    AFTER_BLOCK,
    AFTER_MLP,
    ATTENTION,
    BLOCK,
    HIDDEN,
    KEY,
    MLP,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    NORM1,
    NORM2,
    QUERY,
    VALUE,
    BlockAdapter,
    Read,
    Site,
)
from vlmadapt.core.packing import CAUSAL, Bucket, Mask, Packing
from vlmadapt.core.position_bias import bucket_biases, read_biases
from vlmadapt.core.sequences import PackedSuffix, Sequences, cut
from vlmadapt.errors import PluginError

Angles = tuple[Tensor | None, Tensor | None]
"""Rotary positions of queries and of keys, None where the tower has none."""


def run_block(block: BlockParts, x: Sequences, packing: Packing, adapters: Sequence[BlockAdapter]) -> Sequences:
    """Run a block for all tokens.

    The prefix is computed once; the suffix tokens of each sequence attend to its keys and values. Linear maps see the
    prefix and the suffix tokens of all buckets concatenated.
    """
    prefix_len = x.map.prefix_len
    tokens = _packed(x, packing)  # (G, P + M, width)
    normed = _norm1(block, tokens, adapters)
    parts = [_by_bucket(part, prefix_len, packing) for part in _query_key_value(block, normed, adapters)]
    (query, *queries), (key, *keys), (value, *values) = parts
    angles = _angles(block, packing.patches(tokens.device)) if block.rotary() is not None else None
    masks, biases = packing.masks(value.dtype), bucket_biases(block, packing, value)
    attended = [
        _attend(block, q, _after_prefix(key, k), _after_prefix(value, v), mask, (angles, angles), bias).flatten(1, 2)
        for q, k, v, mask, bias in zip(queries, keys, values, masks, biases, strict=True)
    ]
    if prefix_len:
        attended.insert(0, _attend(block, query, key, value, packing.prefix_mask))
    out = _residuals(block, tokens, normed, _joined(attended), adapters)
    prefix, suffix = cut(out, 1, prefix_len) if prefix_len else (out[:, :0], out)
    return Sequences(prefix, _unpacked(suffix, packing), x.map)


def run_last_block(
    block: BlockParts,
    x: Sequences,
    packing: Packing,
    adapters: Sequence[BlockAdapter],
    reads: Sequence[Read | str],
) -> dict[Read | str, Tensor]:
    """Run the last block only for the tokens that heads read; all other tokens supply keys and values.

    Returns:
        The block's output (G, N, n, width) for each of `reads`.
    """
    wanted = {read: _read(x, read) for read in reads}
    groups = max(tokens.shape[0] for tokens in wanted.values())
    tokens = torch.cat([t.expand(groups, x.map.rows, -1, -1) for t in wanted.values()], dim=2)
    keyed = _norm1(block, _packed(x, packing), adapters)
    key_value = _key_value(block, keyed, adapters)
    (key, *keys), (value, *values) = (_by_bucket(part, x.map.prefix_len, packing) for part in key_value)
    normed = _norm1(block, tokens, adapters)
    query = _with_branches(block.query(normed), adapters, QUERY, normed)
    angles: Angles = (None, None)
    if block.rotary() is not None:
        read, every = packing.read_patches(reads, tokens.device), packing.patches(tokens.device)
        angles = _angles(block, read), _angles(block, every)
    masks, biases = packing.read_masks(reads, value.dtype), read_biases(block, packing, reads, value)
    attended = [
        bucket.untile(
            _attend(block, _rows_of(bucket, query), _after_prefix(key, k), _after_prefix(value, v), mask, angles, bias)
        )
        for k, v, bucket, mask, bias in zip(keys, values, packing.buckets, masks, biases, strict=True)
    ]
    joined = _joined(attended)
    in_order = joined if packing.row_order is None else joined.index_select(1, packing.row_order)
    out = _residuals(block, tokens, normed, in_order, adapters)
    tokens_read = out.split([t.shape[2] for t in wanted.values()], dim=2)
    return dict(zip(wanted, tokens_read, strict=True))


def run_local(block: BlockParts, x: Sequences, adapters: Sequence[BlockAdapter]) -> Tensor:
    """Run a block in which each token attends to itself alone.

    The attention then gives each token its own value, whatever query and key are.

    Returns:
        The block's output (G, N, n, width) for all tokens.
    """
    tokens = x.whole()
    normed = _norm1(block, tokens, adapters)
    _, value = _key_value(block, normed, adapters)
    return _residuals(block, tokens, normed, value, adapters)


def read_tokens(x: Sequences, reads: Sequence[Read | str]) -> dict[Read | str, Tensor]:
    """The tokens (G, N|1, n, width) that heads read of a block's output."""
    return {read: _read(x, read) for read in reads}


def _read(x: Sequences, read: Read | str) -> Tensor:
    if read is Read.POOLED:
        return x.read_pooled()
    return x.whole() if read is Read.ALL else x.read(read)


def _by_bucket(x: Tensor, prefix_len: int, packing: Packing) -> list[Tensor]:
    """Split packed tokens (G, P + M, width): the prefix (G, P, width), and each bucket's suffixes (G, n, s, width)."""
    sizes = [bucket.size for bucket in packing.buckets]
    # Splitting off nothing would cost a copy in the backward pass.
    prefix, *suffixes = x.split([prefix_len, *sizes], dim=1) if prefix_len or len(sizes) > 1 else (x[:, :0], x)
    shaped = [part.unflatten(1, bucket.attending) for part, bucket in zip(suffixes, packing.buckets, strict=True)]
    return [prefix, *shaped]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tokens of all buckets, one after another along axis 1."""
    return torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]


def _rows_of(bucket: Bucket, x: Tensor) -> Tensor:
    """Tokens (G, N, r, width) of a bucket's rows, as they attend."""
    return bucket.tile(x if bucket.rows is None else x.index_select(1, bucket.rows))


def _packed(x: Sequences, packing: Packing) -> Tensor:
    """Packed tokens (G, P + M, width): the prefix, then the computed suffix tokens, bucket by bucket."""
    suffix = _packed_suffix(x, packing)
    if not x.map.prefix_len:
        return suffix
    groups = max(x.prefix.shape[0], suffix.shape[0])
    return torch.cat([x.prefix.expand(groups, -1, -1), suffix.expand(groups, -1, -1)], dim=1)


def _packed_suffix(x: Sequences, packing: Packing) -> Tensor:
    """The computed suffix tokens (G, M, width); as the block before has left them, where they are the same ones."""
    if isinstance(x.rest, PackedSuffix) and x.rest.index is packing.packed_index:
        return x.rest.tokens
    suffix = x.suffix.flatten(1, 2)
    return suffix if packing.packed_index is None else suffix.index_select(1, packing.packed_index)


def _unpacked(suffix: Tensor, packing: Packing) -> Tensor | PackedSuffix:
    """Computed suffix tokens (G, M, width) as the rest of sequences."""
    token_map = packing.map
    shape = token_map.rows, token_map.length - token_map.prefix_len
    if packing.packed_index is None:
        return suffix.unflatten(1, shape)
    return PackedSuffix(suffix, packing.packed_index, shape)


def _norm1(block: BlockParts, x: Tensor, adapters: Sequence[BlockAdapter]) -> Tensor:
    normed = _norm(block.norm1, x, adapters, None if block.post_norm else NEXT_TO_NORM1)
    return _adapted(normed, adapters, NORM1)


def _norm2(block: BlockParts, x: Tensor, adapters: Sequence[BlockAdapter]) -> Tensor:
    normed = _norm(block.norm2, x, adapters, None if block.post_norm else NEXT_TO_NORM2)
    return _adapted(normed, adapters, NORM2)


def _norm(norm: Callable[[Tensor], Tensor], x: Tensor, adapters: Sequence[BlockAdapter], site: Site | None) -> Tensor:
    """The output of a norm with the branches next to it, which are next to the last norms in a post-norm block."""
    return norm(x) if site is None else _with_branches(norm(x), adapters, site, x)


def _query_key_value(block: BlockParts, x: Tensor, adapters: Sequence[BlockAdapter]) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = block.query_key_value(x)
    return (
        _with_branches(query, adapters, QUERY, x),
        _with_branches(key, adapters, KEY, x),
        _with_branches(value, adapters, VALUE, x),
    )


def _key_value(block: BlockParts, x: Tensor, adapters: Sequence[BlockAdapter]) -> tuple[Tensor, Tensor]:
    key, value = block.key_value(x)
    return _with_branches(key, adapters, KEY, x), _with_branches(value, adapters, VALUE, x)


def _with_branches(out: Tensor, adapters: Sequence[BlockAdapter], site: Site, x: Tensor) -> Tensor:
    """The output of a part of the block with the branches next to it; they read the part's input `x`."""
    for adapter in adapters:
        if adapter.site is site:
            out = _join(adapter, out, x)
    return out


def _adapted(out: Tensor, adapters: Sequence[BlockAdapter], site: Site) -> Tensor:
    """The output of a part of the block after the branches that read this output."""
    for adapter in adapters:
        if adapter.site is site:
            out = _join(adapter, out, out)
    return out


def _join(adapter: BlockAdapter, out: Tensor, x: Tensor) -> Tensor:
    """What stands at a site after a branch that reads `x`.

    Raises:
        PluginError: the branch gives tokens of another width.
    """
    change = adapter.branch(x).to(out.dtype)
    if change.shape[-1:] != out.shape[-1:]:
        raise PluginError(
            f"the branch at {adapter.site.value} of block {adapter.layer} (from 0) of the {adapter.tower.value} tower "
            f"gives {change.shape[-1] if change.ndim else 'no'} values per token, there the tower has {out.shape[-1]}."
        )
    return change if adapter.replace else out + change


def _residuals(
    block: BlockParts, x: Tensor, normed: Tensor, attended: Tensor, adapters: Sequence[BlockAdapter]
) -> Tensor:
    """Everything after the attention: output projection, residual, MLP, branches."""
    attended = block.inner_norm(attended)
    attention = _with_branches(block.output(attended), adapters, ATTENTION, attended)
    sites = (NEXT_TO_NORM1, NEXT_TO_NORM2) if block.post_norm else (None, None)
    x = _norm(block.post_norm1, x + _adapted(attention, adapters, AFTER_ATTENTION), adapters, sites[0])
    middle = _norm2(block, x, adapters)
    mlp = _with_branches(_mlp(block, middle, adapters), adapters, MLP, middle)
    x = _norm(block.post_norm2, x + _adapted(mlp, adapters, AFTER_MLP), adapters, sites[1])
    return _adapted(_with_branches(x, adapters, BLOCK, normed), adapters, AFTER_BLOCK)


def _mlp(block: BlockParts, x: Tensor, adapters: Sequence[BlockAdapter]) -> Tensor:
    """The MLP with the branches on its hidden layer."""
    if all(adapter.site is not HIDDEN for adapter in adapters):
        return block.mlp(x)
    maps = block.mlp_maps()
    assert maps is not None  # `derive` has asked for its width
    return maps.rest(_adapted(maps.first(x), adapters, HIDDEN))


def _after_prefix(prefix: Tensor, suffix: Tensor) -> Tensor:
    """Keys or values of the prefix (G, P, width) before those of each sequence's suffix (G, N, S, width)."""
    if not prefix.shape[1]:
        return suffix
    return torch.cat([prefix[:, None].expand(-1, suffix.shape[1], -1, -1), suffix], dim=2)


def _angles(block: BlockParts, patches: Tensor) -> Tensor:
    """Sines and cosines (T, 2 * head width) of tokens with these patch numbers; 0, for any other token, turns nothing.

    Rotary positions exist in image towers alone, where no sequence has a prefix or padding.
    """
    rotary = block.rotary()
    assert rotary is not None
    width = rotary.shape[1] // 2
    still = torch.cat([rotary.new_zeros(1, width), rotary.new_ones(1, width)], dim=1)
    return torch.cat([still, rotary]).index_select(0, patches)


def _kernels(mask: Mask, device: torch.device) -> AbstractContextManager[None]:
    """The attention kernels to choose from: torch's first choice on a GPU is slow for texts, which are short."""
    if mask is None or device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _attend(
    block: BlockParts,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask,
    angles: Angles = (None, None),
    bias: Tensor | None = None,
) -> Tensor:
    """Multi-head attention of queries (G, [N,] Tq, width) over keys and values (G, [N,] Tk, width)."""
    batch = tuple(map(max, query.shape[:-2], key.shape[:-2]))

    def heads(x: Tensor) -> Tensor:
        tokens, width = x.shape[-2:]
        return x.expand(*batch, tokens, width).reshape(-1, tokens, block.heads, width // block.heads).transpose(1, 2)

    def turned(x: Tensor, at: Tensor | None) -> Tensor:
        return x.to(value.dtype) if at is None else block.rotate(x, at).to(value.dtype)

    def by_sequence(x: Tensor) -> Tensor:
        """What scores get, (n|1, heads|1, Tq, Tk), for all sequences in the batch."""
        return x if len(x) == 1 else x.expand(*batch, *x.shape[1:]).reshape(-1, *x.shape[1:])

    seen = mask if isinstance(mask, Tensor) else None
    if seen is not None and seen.ndim == 3:
        seen = by_sequence(seen[:, None])
    if bias is not None:
        assert mask is not CAUSAL
        seen = _biased(by_sequence(bias), seen)
    queries, keys = turned(block.query_norm(heads(query)), angles[0]), turned(block.key_norm(heads(key)), angles[1])
    with _kernels(mask, query.device):
        out = F.scaled_dot_product_attention(
            queries, keys, heads(value), attn_mask=seen, is_causal=mask is CAUSAL, scale=block.scale
        )
    return out.transpose(1, 2).reshape(*batch, *query.shape[-2:])


def _biased(bias: Tensor, mask: Tensor | None) -> Tensor:
    """What is added to scores: the bias, and -inf where a mask, of either form, forbids to attend."""
    if mask is None:
        return bias
    return bias.masked_fill(~mask, float("-inf")) if mask.dtype is torch.bool else bias + mask

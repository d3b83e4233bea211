"""Packing for one block: which tokens are computed, how sequences are bucketed by length, and the attention masks.

    N sequences of T tokens                       computed tokens, concatenated
    prefix  | suffix                              prefix | bucket 1    | bucket 2
    t t t   | a1 a2 EOT .  .  .                   t t t  | a1 a2 EOT   | b1 b2 b3 b4 EOT
    t t t   | b1 b2 b3  b4 EOT .                         | c1 c2 EOT   |
    t t t   | c1 c2 EOT .  .  .

Linear maps and norms run once over all computed tokens. The prefix attends to itself once; each bucket attends to the
prefix and to itself. Padding (the dots) is not computed, up to the longest sequence of a bucket; in a causal tower, it
is all after the pooled token.

A GPU computes attention in tiles of many queries. Texts are shorter, so there several share a tile: they attend as one
long sequence, with a mask in which none sees another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor

from vlmadapt.core.cost import bucket_cost, sequences_per_tile
from vlmadapt.core.hooks import Read
from vlmadapt.core.token_map import EVERYONE, TokenMap

CAUSAL: Final = "causal"
"""The mask of tokens that see themselves and all earlier ones: attention has kernels that need no such mask."""

Mask = Tensor | Literal["causal"] | None
"""Which query may attend to which key, True is "may": (s, T), or (n, s, T) where it differs by sequence; `CAUSAL`; None
where all see all."""
M = TypeVar("M", Tensor | None, Mask)


@dataclass(frozen=True, eq=False)
class Bucket:
    """Sequences of about the same length, which attend in one call.

    Attributes:
        rows: (n,) which of the N sequences they are; None for all of them, in order.
        shape: n, and the number s of suffix tokens of each that are computed.
        keys: (P + s,) positions in the whole sequence of the prefix and of those suffix tokens.
        mask: which suffix tokens may attend to which tokens of the prefix and of the sequences that attend together.
        together: number g of sequences that attend as one.
    """

    rows: Tensor | None
    shape: tuple[int, int]
    keys: Tensor
    mask: Mask
    together: int = 1

    @property
    def size(self) -> int:
        """Computed suffix tokens n * s."""
        return self.shape[0] * self.shape[1]

    @property
    def attending(self) -> tuple[int, int]:
        """The shape in which suffix tokens attend, (n / g, g * s)."""
        return self.shape[0] // self.together, self.together * self.shape[1]

    def tile(self, x: Tensor) -> Tensor:
        """Tokens (G, n, r, width) of each sequence -> (G, n / g, g * r, width), of sequences that attend together."""
        return x if self.together == 1 else x.unflatten(1, (-1, self.together)).flatten(2, 3)

    def untile(self, x: Tensor) -> Tensor:
        """The inverse of `tile`."""
        return x if self.together == 1 else x.unflatten(2, (self.together, -1)).flatten(1, 2)

    def select_rows(self, x: Tensor) -> Tensor:
        """The bucket's rows of what (N|1, r) the tokens of each sequence have, as they attend."""
        if len(x) > 1 and self.rows is not None:
            x = x.index_select(0, self.rows)
        return x.repeat(1, self.together) if len(x) == 1 else x.reshape(-1, self.together * x.shape[1])

    def select_mask(self, mask: Tensor | None) -> Tensor | None:
        """The bucket's rows and keys of a mask (N|1, r, T) over whole sequences, for queries in tiles."""
        if mask is None:
            return None
        if self.rows is not None:
            mask = (mask if mask.shape[0] == 1 else mask[self.rows])[:, :, self.keys]
        return mask if self.together == 1 else _tiled(mask, len(self.keys) - self.shape[1], self.together)


@dataclass(frozen=True, eq=False)
class Packing:
    """How sequences with one token map go through a block.

    Attributes:
        map: the token map it was made for.
        buckets: each sequence is in exactly one.
        packed_index: (M,) indices of the computed among the N * S suffix tokens, bucket by bucket; None where all are
            computed, in order.
        row_order: (N,) position of each sequence among those of all buckets; None where they are in order.
        mask: which token may attend to which in whole sequences, (T, T), or (N, T, T) where it differs by sequence;
            None where all see all. True is "may attend".
        prefix_mask: the same among the tokens of the prefix, (P, P).
    """

    map: TokenMap
    buckets: tuple[Bucket, ...]
    packed_index: Tensor | None
    row_order: Tensor | None
    mask: Tensor | None
    prefix_mask: Mask

    def patches(self, device: torch.device) -> Tensor:
        """(T,) 1 + the number of the patch at each position of the whole sequence, 0 where another token stands."""

        def make() -> Tensor:
            return self.map.patch_index(torch.arange(self.map.length))

        return self.map.index("patch numbers", device, make)

    def read_patches(self, reads: Iterable[Read | str], device: torch.device) -> Tensor:
        """The same for the tokens that are read, in their order."""
        key = tuple(reads)

        def make() -> Tensor:
            return self.map.patch_index(_read_positions(self.map, key)[0])

        return self.map.index(("read patch numbers", key), device, make)

    def places(self, device: torch.device) -> Tensor:
        """(T,) 1 + the number of each token among the tower's own, 0 for inserted tokens."""
        return self.map.index("places", device, lambda: self.map.places)

    def read_places(self, reads: Iterable[Read | str], device: torch.device) -> Tensor:
        """The same (N|1, r) for the tokens that are read, in their order."""
        key = tuple(reads)
        return self.map.index(("read places", key), device, lambda: self.map.places[_read_positions(self.map, key)])

    def masks(self, dtype: torch.dtype) -> list[Mask]:
        """Mask of each bucket, for scores of a dtype."""
        return [self._added(bucket.mask, dtype) for bucket in self.buckets]

    def read_masks(self, reads: Iterable[Read | str], dtype: torch.dtype) -> list[Mask]:
        """For each bucket, the mask lines (n|1, tokens read, keys) of the tokens that are read."""
        key = tuple(reads)

        def make() -> tuple[Tensor | None, ...]:
            lines = None if self.mask is None else _mask_lines(self.map, self.mask, key)
            return tuple(bucket.select_mask(lines) for bucket in self.buckets)

        masks = self.map.once((id(self), "read masks", key), make)
        return [self._added(mask, dtype) for mask in masks]

    def _added(self, mask: Mask, dtype: torch.dtype) -> Mask:
        """A mask in the form that attention takes fastest: on a GPU as what it adds to its scores."""
        if not isinstance(mask, Tensor) or not mask.is_cuda:
            return mask
        return self.map.once((id(mask), "added", dtype), lambda: _added(mask, dtype))


def pack(token_map: TokenMap, device: torch.device, *, causal: bool, by_length: bool) -> Packing:
    """The packing of sequences with a token map; made once for each map.

    Args:
        token_map: token map of the sequences.
        device: device of the block.
        causal: True if tokens attend only to earlier ones.
        by_length: leave padding out where no token attends to it, in as many buckets as are worthwhile on this device.
    """

    def make() -> Packing:
        ends = token_map.last_needed(causal) if by_length else []
        return _packing(token_map, ends, causal, bucket_cost(device.type), device)

    return token_map.once(("packing", device, causal, by_length), make)


def choose_buckets(ends: Sequence[int], cost: float) -> list[int]:
    """Last position of each bucket, shortest first, so that computed tokens plus `cost` for each bucket are fewest."""
    counts = sorted(Counter(ends).items())
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for stop, (longest, _) in enumerate(counts, start=1):
        tried = (
            (best[start][0] + cost + (longest + 1) * sum(n for _, n in counts[start:stop]), [*best[start][1], longest])
            for start in range(stop)
        )
        best.append(min(tried))
    return best[-1][1]


def _packing(token_map: TokenMap, ends: list[int], causal: bool, cost: float, device: torch.device) -> Packing:
    mask = _attention_mask(token_map, causal)
    prefix_len = token_map.prefix_len
    longest = choose_buckets(ends, cost) if ends and mask is not None else []
    packed_index = row_order = None
    if mask is None or not longest or longest == [token_map.length - 1]:
        buckets = [_all_tokens(token_map, mask)]
    else:
        buckets, packed_index, row_order = _by_length(token_map, mask, ends, longest)
    prefix_mask = None if mask is None else (mask if mask.ndim == 2 else mask[0])[:prefix_len, :prefix_len]
    return Packing(
        token_map,
        tuple(_moved(_in_tiles(bucket, prefix_len, device), device) for bucket in buckets),
        _on(device, packed_index),
        _on(device, row_order),
        _on(device, mask),
        _on(device, _simplest(prefix_mask)),
    )


def _all_tokens(token_map: TokenMap, mask: Tensor | None) -> Bucket:
    """One bucket of all sequences and tokens."""
    prefix_len, length = token_map.prefix_len, token_map.length
    seen = None if mask is None else mask[..., prefix_len:, :]
    return Bucket(None, (token_map.rows, length - prefix_len), torch.arange(length), seen)


def _by_length(
    token_map: TokenMap, mask: Tensor, ends: Sequence[int], longest: Sequence[int]
) -> tuple[list[Bucket], Tensor, Tensor]:
    """Buckets of sequences whose last needed token is at most at each of `longest`; `packed_index` and `row_order`."""
    prefix_len, suffix_len = token_map.prefix_len, token_map.length - token_map.prefix_len
    position = torch.arange(token_map.length)
    buckets, packed, order = [], [], []
    for shorter, end in zip([-1, *longest], longest, strict=False):
        rows = torch.tensor([row for row, last in enumerate(ends) if shorter < last <= end])
        computed = position <= end
        if token_map.appended is not None:
            computed |= position >= token_map.appended
        keys = position[computed]
        suffix = keys[prefix_len:]
        seen = mask if mask.ndim == 2 else mask[rows]
        buckets.append(Bucket(rows, (len(rows), len(suffix)), keys, seen[..., suffix[:, None], keys]))
        packed.append((rows[:, None] * suffix_len + (suffix - prefix_len)).flatten())
        order.append(rows)
    return buckets, torch.cat(packed), torch.cat(order).argsort()


def _moved(bucket: Bucket, device: torch.device) -> Bucket:
    mask = _on(device, _simplest(bucket.mask))
    return replace(bucket, rows=_on(device, bucket.rows), keys=bucket.keys.to(device), mask=mask)


def _in_tiles(bucket: Bucket, prefix_len: int, device: torch.device) -> Bucket:
    """The bucket with as many sequences attending together as fit a tile of the device, where one mask serves all."""
    if not isinstance(bucket.mask, Tensor) or bucket.mask.ndim != 2:
        return bucket
    together = sequences_per_tile(device.type, *bucket.shape)
    if together == 1:
        return bucket
    mask = _tiled(bucket.mask[None], prefix_len, together)[0]
    return replace(bucket, mask=mask, together=together)


def _tiled(mask: Tensor, prefix_len: int, together: int) -> Tensor:
    """Mask (n|1, r, P + s) -> (n / g|1, g * r, P + g * s): sequences in a tile see the prefix and their own tokens.

    What they may see of the prefix and of their own tokens is what the mask of each says.
    """
    rows = mask.expand(together, -1, -1) if len(mask) == 1 else mask
    prefix, own = rows.unflatten(0, (-1, together)).split([prefix_len, mask.shape[2] - prefix_len], dim=3)
    tiles, _, r, s = own.shape
    apart = own.new_zeros(tiles, together, r, together, s)
    for place in range(together):
        apart[:, place, :, place] = own[:, place]
    return torch.cat([prefix.flatten(1, 2), apart.flatten(3, 4).flatten(1, 2)], dim=2)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a query may attend, else -inf; lines start at multiples of 16 values, as attention kernels need."""
    *lines, keys = mask.shape
    room = torch.zeros(*lines, -(-keys // 16) * 16, dtype=dtype, device=mask.device)[..., :keys]
    return room.masked_fill_(~mask, float("-inf"))


def _on(device: torch.device, value: M) -> M:
    return value.to(device).contiguous() if isinstance(value, Tensor) else value


def _simplest(mask: Mask) -> Mask:
    """`CAUSAL` where that is what a mask says."""
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        return mask
    return CAUSAL if torch.equal(mask, torch.ones_like(mask).tril()) else mask


def _attention_mask(token_map: TokenMap, causal: bool) -> Tensor | None:
    """Which token may attend to which, over whole sequences."""
    length, appended = token_map.length, token_map.appended
    visible = _visible(token_map)
    if token_map.padding is not None:
        seen = visible & ~token_map.padding[:, None]
        return seen & torch.ones(length, length, dtype=torch.bool).tril() if causal else seen
    if not causal:
        return None if visible.all() else visible
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    if appended is None:
        return earlier & visible
    # Padding lies between the pooled token and appended tokens; no token may attend to it.
    assert token_map.pool is not None
    position = torch.arange(length)
    not_padding = (position <= token_map.pool[:, None]) | (position >= appended)
    return earlier & visible & not_padding[:, None]


def _visible(token_map: TokenMap) -> Tensor:
    """Which token (T, T) may attend to which, as far as injected groups are hidden from others."""
    visible = torch.ones(token_map.length, token_map.length, dtype=torch.bool)
    for name, blind in token_map.hidden.items():
        keys = token_map.spans[name].contiguous
        for other in blind:
            if other == EVERYONE:
                visible[:, keys] = False
            elif other in token_map.spans:  # else it enters at a later layer
                visible[token_map.spans[other].contiguous, keys] = False
    return visible


def _mask_lines(token_map: TokenMap, mask: Tensor, reads: tuple[Read | str, ...]) -> Tensor:
    """The lines (N|1, n, T) of a mask that belong to the tokens read."""
    lines = mask if mask.ndim == 3 else mask[None]
    picked = []
    for read in reads:
        positions = _positions(token_map, read).to(mask.device)
        index = positions[:, :, None].expand(max(len(positions), len(lines)), -1, lines.shape[2])
        picked.append(lines.expand(index.shape[0], -1, -1).gather(1, index))
    rows = max(len(lines) for lines in picked)
    return torch.cat([lines.expand(rows, -1, -1) for lines in picked], dim=1)


def _read_positions(token_map: TokenMap, reads: tuple[Read | str, ...]) -> Tensor:
    """Positions (N|1, n) of all tokens that are read, one kind after another."""
    found = [_positions(token_map, read) for read in reads]
    rows = max(len(positions) for positions in found)
    return torch.cat([positions.expand(rows, -1) for positions in found], dim=1)


def _positions(token_map: TokenMap, read: Read | str) -> Tensor:
    """Positions (N|1, n) of the tokens read."""
    if read is Read.POOLED and token_map.pooled:
        return torch.cat([_positions(token_map, name) for name in token_map.pooled], dim=1)
    if read is Read.POOLED:
        return torch.zeros(1, 1, dtype=torch.long) if token_map.pool is None else token_map.pool[:, None]
    if read is Read.ALL:
        return torch.arange(token_map.length)[None]
    span = token_map.spans[read]
    return torch.arange(span.start, span.start + span.length)[None] if span.positions is None else span.positions

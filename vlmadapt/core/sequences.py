"""Token sequences between two blocks, and the operations of token injection: insert, replace, blend.

A sequence has two parts. The `prefix` is the same for all classes (in causal text towers, possibly empty), the `suffix`
differs. Both have a leading dimension G of groups (images, or variants of a prompt), which is 1 where all groups are
the same. Positions count from the start of the whole sequence.

Blocks leave out padding and compute the suffixes of sequences that have the same length together. They hand them on as
they are, and they are put in place only where something else asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from vlmadapt.core.overwrite import overwrite
from vlmadapt.core.token_map import Span, TokenMap


@dataclass(frozen=True, eq=False)
class PackedSuffix:
    """Suffix tokens without padding, in the order in which a block computes them.

    Attributes:
        tokens: (G, M, width).
        index: (M,) their places among the N * S tokens of all suffixes.
        shape: N and S.
    """

    tokens: Tensor
    index: Tensor
    shape: tuple[int, int]

    @cached_property
    def padded(self) -> Tensor:
        """(G, N, S, width), zero where there is padding."""
        groups, _, width = self.tokens.shape
        room = self.tokens.new_zeros(groups, self.shape[0] * self.shape[1], width)
        return room.index_copy(1, self.index, self.tokens).unflatten(1, self.shape)


@dataclass(frozen=True)
class Sequences:
    """Sequences of tokens.

    Attributes:
        prefix: (G, P, width), P >= 0.
        rest: the suffix, or what a block has computed of it.
        map: positions of all tokens.
    """

    prefix: Tensor
    rest: Tensor | PackedSuffix
    map: TokenMap

    @property
    def suffix(self) -> Tensor:
        """(G, N, S, width), N rows (classes, or passes of an image)."""
        return self.rest.padded if isinstance(self.rest, PackedSuffix) else self.rest

    @property
    def groups(self) -> int:
        """G of the suffix."""
        return (self.rest.tokens if isinstance(self.rest, PackedSuffix) else self.rest).shape[0]

    @classmethod
    def of(cls, tokens: Tensor, token_map: TokenMap) -> Sequences:
        """Sequences from tokens (G, N, T, width), the first P of which are the same in all N rows."""
        return cls(tokens[:, 0, : token_map.prefix_len], tokens[:, :, token_map.prefix_len :], token_map)

    def insert(self, at: int, tokens: Tensor, name: str, *, hidden: tuple[str, ...] = ()) -> Sequences:
        """Insert tokens (G|1, N|1, n, width) before position `at`.

        They become part of the prefix if they are the same for all rows and `at` is not after its end.
        """
        n = tokens.shape[2]
        if tokens.shape[1] == 1 and 0 < at <= self.map.prefix_len:
            prefix, new = _same_groups(self.prefix, tokens[:, 0])
            before, after = cut(prefix, 1, at)
            joined = torch.cat([before, new, after], dim=1)
            token_map = self.map.insert(at, n, name, hidden=hidden, shared=True, rows=self.map.rows)
            return Sequences(joined, self.suffix, token_map)
        split = self.split(at)
        suffix, new = _same_rows(split.suffix, tokens)
        in_suffix = at - split.map.prefix_len
        before, after = cut(suffix, 2, in_suffix)
        joined = torch.cat([before, new, after], dim=2)
        token_map = split.map.insert(at, n, name, hidden=hidden, shared=False, rows=joined.shape[1])
        return Sequences(split.prefix, joined, token_map)

    def append(self, tokens: Tensor, name: str, *, hidden: tuple[str, ...] = ()) -> Sequences:
        """Put tokens (G|1, N|1, n, width) at the end."""
        suffix, new = _same_rows(self.suffix, tokens)
        token_map = self.map.append(tokens.shape[2], name, hidden=hidden, rows=suffix.shape[1])
        return Sequences(self.prefix, torch.cat([suffix, new], dim=2), token_map)

    def name_span(self, name: str, start: int, length: int) -> Sequences:
        """The same sequences with a name for tokens that are already in them."""
        return Sequences(self.prefix, self.suffix, self.map.name_span(name, start, length))

    def rewrite(self, name: str, tokens: Tensor, blend: float = 1.0) -> Sequences:
        """Write `blend * tokens + (1 - blend) * old` over a span."""
        span = self.map.spans[name]
        if span.positions is not None:
            return self._scatter(name, span, tokens, blend)
        stop = span.start + span.length
        per_row = tokens.shape[1] > 1 or stop > self.map.prefix_len
        split = self.split(span.start) if per_row else self
        if stop <= split.map.prefix_len:
            prefix, new = _same_groups(split.prefix, tokens[:, 0])
            return Sequences(overwrite(prefix, new, span.start, blend), split.rest, split.map)
        suffix, new = _same_rows(split.suffix, tokens)
        written = overwrite(suffix, new, span.start - split.map.prefix_len, blend)
        return Sequences(split.prefix, written, split.map.with_rows(written.shape[1]))

    def read(self, name: str) -> Tensor:
        """Tokens (G, N|1, n, width) of a span."""
        span = self.map.spans[name]
        if span.positions is not None:
            return _gather(self.whole(), self._suffix_index(name, span, 0))
        stop = span.start + span.length
        if stop <= self.map.prefix_len:
            return self.prefix[:, None, span.start : stop]
        split = self.split(span.start)
        return split.suffix[:, :, span.start - split.map.prefix_len : stop - split.map.prefix_len]

    def read_pooled(self) -> Tensor:
        """The tokens (G, N, n, width) that the tower pools in each sequence: one, or all of its own."""
        pool, prefix_len = self.map.pool, self.map.prefix_len
        if self.map.pooled:
            return torch.cat([self.read(name) for name in self.map.pooled], dim=2)
        if pool is None:
            return self.whole()[:, :, :1]
        index = self.map.index("pool", self.suffix.device, lambda: (pool - prefix_len)[:, None])
        return _gather(self.suffix, index)

    def whole(self) -> Tensor:
        """All tokens (G, N, T, width)."""
        return self.split(0).suffix

    def select(self, start: int, stop: int) -> Sequences:
        """Only the rows `start` to `stop` of N."""
        return Sequences(self.prefix, self.suffix[:, start:stop], self.map.select(start, stop))

    def split(self, position: int) -> Sequences:
        """The same sequences with everything from `position` on in the suffix."""
        if position >= self.map.prefix_len:
            return self
        head, tail = cut(self.prefix, 1, position)
        joined = torch.cat(_same_rows(tail[:, None], self.suffix), dim=2)
        return Sequences(head, joined, self.map.split_prefix(position))

    def _scatter(self, name: str, span: Span, tokens: Tensor, blend: float) -> Sequences:
        """Write over a span whose positions differ by row."""
        split = self.split(span.start)
        index = split._suffix_index(name, span, split.map.prefix_len)
        suffix, new = _same_rows(split.suffix, tokens)
        new = _blend(new, _gather(suffix, index), blend)
        index = index[None, :, :, None].expand(suffix.shape[0], -1, -1, suffix.shape[3])
        written = suffix.scatter(2, index, new.expand(suffix.shape[0], suffix.shape[1], -1, -1))
        return Sequences(split.prefix, written, split.map)

    def _suffix_index(self, name: str, span: Span, prefix_len: int) -> Tensor:
        """(N, n) positions of a span, counted from `prefix_len`, on the device of the tokens."""
        positions = span.positions
        assert positions is not None
        return self.map.index(("span", name, prefix_len), self.suffix.device, lambda: positions - prefix_len)


def cut(x: Tensor, axis: int, *places: int) -> tuple[Tensor, ...]:
    """The pieces of a tensor between places along an axis; in the backward pass, slices would fill and add zeros."""
    edges = [0, *places, x.shape[axis]]
    return x.split([stop - start for start, stop in pairwise(edges)], dim=axis)


def _blend(new: Tensor, old: Tensor, blend: float) -> Tensor:
    return new if blend == 1.0 else blend * new + (1.0 - blend) * old


def _gather(suffix: Tensor, positions: Tensor) -> Tensor:
    """Tokens (G, N, n, width) at positions (N, n) of the suffix."""
    index = positions[None, :, :, None].expand(suffix.shape[0], -1, -1, suffix.shape[3])
    return suffix.gather(2, index)


def _same_groups(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Expand the first dimension of both to the larger."""
    groups = max(a.shape[0], b.shape[0])
    return a.expand(groups, *a.shape[1:]), b.expand(groups, *b.shape[1:])


def _same_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Expand the first two dimensions of both to the larger."""
    groups, rows = max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1])
    return a.expand(groups, rows, *a.shape[2:]), b.expand(groups, rows, *b.shape[2:])

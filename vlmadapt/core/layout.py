"""How rows go through a block: which of their own tokens are computed, in which buckets they attend, who sees whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmadapt.core.rows import Rows

BUCKET = 16
"""Padding tokens that a further bucket has to spare to be worth its own attention."""


@dataclass(frozen=True)
class Bucket:
    """Rows of about the same length, which attend side by side.

    Attributes:
        rows: (n,) which of the N rows they are; None for all of them, in order.
        shape: n, and the own tokens s of each that are computed.
        keys: (P + s,) places of the shared and those own tokens in the whole row.
        mask: who sees whom, (s, P + s), or (n, s, P + s) where it differs by row; None where all see all.
    """

    rows: Tensor | None
    shape: tuple[int, int]
    keys: Tensor
    mask: Tensor | None

    @property
    def size(self) -> int:
        """Own tokens n * s."""
        return self.shape[0] * self.shape[1]

    def lines(self, mask: Tensor | None) -> Tensor | None:
        """What the bucket's rows and keys have of a mask (N|1, n, T) of whole rows."""
        if mask is None or self.rows is None:
            return mask
        lines = mask if mask.shape[0] == 1 else mask[self.rows]
        return lines[:, :, self.keys]


@dataclass(frozen=True)
class Layout:
    """What running a block has to know of rows beside their tokens; the same until tokens are inserted.

    Attributes:
        shape: N rows with P shared of T tokens each.
        buckets: every row is in one.
        real: (M,) indices of the computed among the N * S own tokens, bucket by bucket; None where all are, in order.
        mask: who sees whom in whole rows, (T, T), or (N, T, T) where it differs by row; None where all see all. True
            is "may see".
    """

    shape: tuple[int, int, int]
    buckets: tuple[Bucket, ...]
    real: Tensor | None
    mask: Tensor | None

    def fits(self, rows: Rows) -> bool:
        """No token has been inserted into the rows since, and none has left the shared part."""
        return self.shape == _shape(rows)

    @property
    def order(self) -> Tensor | None:
        """(N,) where each row stands among those of all buckets; None where they are in order."""
        found = [bucket.rows for bucket in self.buckets if bucket.rows is not None]
        return torch.cat(found).argsort() if found else None


def lay_out(rows: Rows, causal: bool, pack: bool) -> Layout:
    """The layout of rows in a tower.

    Args:
        rows: their lengths and groups count, not the tokens.
        causal: tokens see only what stands before them.
        pack: leave padding out (causal towers only).
    """
    mask = _mask(rows, causal)
    n, s = rows.own.shape[1:3]
    place = torch.arange(rows.length, device=rows.own.device)
    ends = rows.end.tolist() if causal and pack and rows.end is not None else []
    last = cut(ends)
    if mask is None or not ends or last == [rows.length - 1]:
        whole = Bucket(None, (n, s), place, None if mask is None else mask[..., rows.prefix :, :])
        return Layout(_shape(rows), (whole,), None, mask)
    buckets, real = [], []
    for previous, longest in zip([-1, *last], last, strict=False):
        of_bucket = [i for i, end in enumerate(ends) if previous < end <= longest]
        chosen = torch.tensor(of_bucket, device=place.device)
        computed = place <= longest
        if rows.appended is not None:
            computed |= place >= rows.appended
        keys = place[computed]
        own = keys[rows.prefix :]
        seen = mask if mask.ndim == 2 else mask[chosen]
        buckets.append(Bucket(chosen, (len(chosen), len(own)), keys, seen[..., own[:, None], keys]))
        real.append((chosen[:, None] * s + (own - rows.prefix)).flatten())
    return Layout(_shape(rows), tuple(buckets), torch.cat(real), mask)


def cut(ends: Sequence[int]) -> list[int]:
    """The largest end of each bucket, shortest first, so that tokens and `BUCKET` for each bucket are fewest."""
    counts = sorted(Counter(ends).items())
    best: list[tuple[int, list[int]]] = [(0, [])]
    for stop, (longest, _) in enumerate(counts, start=1):
        tried = (
            (
                best[start][0] + BUCKET + (longest + 1) * sum(n for _, n in counts[start:stop]),
                [*best[start][1], longest],
            )
            for start in range(stop)
        )
        best.append(min(tried))
    return best[-1][1]


def _shape(rows: Rows) -> tuple[int, int, int]:
    return rows.own.shape[1], rows.prefix, rows.length


def _mask(rows: Rows, causal: bool) -> Tensor | None:
    """Who sees whom in whole rows."""
    visible = torch.ones(rows.length, dtype=torch.bool, device=rows.own.device)
    for name in rows.hidden:
        span = rows.spans[name]
        visible[span.start : span.start + span.length] = False
    if not causal:
        return None if visible.all() else visible.expand(rows.length, -1)
    order = torch.ones(rows.length, rows.length, dtype=torch.bool, device=rows.own.device).tril()
    if rows.appended is None:
        return order & visible
    # Between the end of a row and what is appended to it stands padding, which nothing may see.
    assert rows.end is not None
    place = torch.arange(rows.length, device=rows.own.device)
    real = (place <= rows.end[:, None]) | (place >= rows.appended)
    return order & (visible & real)[:, None]

"""Rows in buckets: every row is in one, none is cut, and a bucket more is made only where it spares enough."""

from __future__ import annotations

import torch

from vlmadapt.core.layout import BUCKET, cut, lay_out
from vlmadapt.core.rows import Rows


def rows_of(ends: list[int], length: int, shared: int = 2) -> Rows:
    return Rows.of(torch.zeros(1, len(ends), length, 4), torch.tensor(ends), {}, shared)


def test_rows_of_one_length_are_one_bucket() -> None:
    assert cut([7] * 100) == [7]


def test_few_rows_share_a_bucket_and_many_do_not() -> None:
    """Two lengths that differ by three tokens are worth two buckets where the padding is more than `BUCKET`."""
    few = BUCKET // 3
    assert cut([5] * few + [8]) == [8]
    assert cut([5] * (few + 1) + [8]) == [5, 8]


def test_every_row_is_computed_once_and_whole() -> None:
    ends = [3, 9, 4, 3, 8] * 20
    rows = rows_of(ends, length=12)
    layout = lay_out(rows, causal=True, pack=True)
    assert layout.real is not None
    assert len(layout.buckets) > 1
    chosen = [bucket.rows for bucket in layout.buckets if bucket.rows is not None]
    assert torch.cat(chosen).sort().values.tolist() == list(range(100))
    computed = set(layout.real.tolist())
    assert len(computed) == len(layout.real) == sum(bucket.size for bucket in layout.buckets)
    wanted = {row * 10 + place - 2 for row, end in enumerate(ends) for place in range(2, end + 1)}
    assert computed >= wanted
    assert len(computed - wanted) <= BUCKET * len(cut(ends))


def test_rows_without_padding_are_taken_as_they_are() -> None:
    layout = lay_out(rows_of([5, 5, 5], length=6), causal=True, pack=True)
    assert layout.real is None
    assert layout.order is None


def test_a_layout_fits_until_a_token_is_inserted() -> None:
    rows = rows_of([5, 4, 5], length=6)
    layout = lay_out(rows, causal=True, pack=True)
    assert layout.fits(rows)
    assert not layout.fits(rows.insert(1, torch.zeros(1, 1, 2, 4), "new"))
    assert not layout.fits(rows.insert(4, torch.zeros(1, 3, 2, 4), "new"))

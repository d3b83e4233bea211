"""Packing by length: every sequence is in one bucket, none is cut, one more bucket has to save enough padding."""

from __future__ import annotations

import torch

from vlmadapt.core.cost import bucket_cost
from vlmadapt.core.hooks import Read
from vlmadapt.core.packing import Packing, choose_buckets, pack
from vlmadapt.core.token_map import EVERYONE, TokenMap

CPU = torch.device("cpu")
COST = bucket_cost("cpu")


def map_of(ends: list[int], length: int, prefix_len: int = 2) -> TokenMap:
    return TokenMap(len(ends), prefix_len, length, pool=torch.tensor(ends))


def packed(token_map: TokenMap) -> Packing:
    return pack(token_map, CPU, causal=True, by_length=True)


def test_sequences_of_one_length_are_one_bucket() -> None:
    assert choose_buckets([7] * 100, COST) == [7]


def test_few_sequences_share_a_bucket_and_many_do_not() -> None:
    """Two lengths that differ by three tokens are worth two buckets if the padding is more than a bucket costs."""
    few = int(COST) // 3
    assert choose_buckets([5] * few + [8], COST) == [8]
    assert choose_buckets([5] * (few + 1) + [8], COST) == [5, 8]


def test_on_a_gpu_a_bucket_has_to_save_a_hundred_times_more() -> None:
    ends = [5] * 300 + [8]
    assert choose_buckets(ends, bucket_cost("cpu")) == [5, 8]
    assert choose_buckets(ends, bucket_cost("cuda")) == [8]


def test_every_sequence_is_computed_once_and_whole() -> None:
    ends = [3, 9, 4, 3, 8] * 20
    packing = packed(map_of(ends, length=12))
    assert packing.packed_index is not None
    assert len(packing.buckets) > 1
    rows = [bucket.rows for bucket in packing.buckets if bucket.rows is not None]
    assert torch.cat(rows).sort().values.tolist() == list(range(100))
    computed = set(packing.packed_index.tolist())
    assert len(computed) == len(packing.packed_index) == sum(bucket.size for bucket in packing.buckets)
    wanted = {row * 10 + position - 2 for row, end in enumerate(ends) for position in range(2, end + 1)}
    assert computed >= wanted
    assert len(computed - wanted) <= COST * len(choose_buckets(ends, COST))


def test_a_bucket_masks_its_own_rows_where_masks_differ_by_row() -> None:
    """With appended tokens each sequence hides its own padding: a bucket has to take the lines of its own rows."""
    ends = [9] * 40 + [3] * 40
    token_map = map_of(ends, length=10).append(2, "extra", hidden=(), rows=80)
    packing = packed(token_map)
    assert len(packing.buckets) > 1
    for bucket in packing.buckets:
        assert bucket.rows is not None
        assert isinstance(bucket.mask, torch.Tensor)
        suffix = bucket.keys[token_map.prefix_len :]
        for i, row in enumerate(bucket.rows.tolist()):
            for q, query in enumerate(suffix.tolist()):
                for k, key in enumerate(bucket.keys.tolist()):
                    allowed = key <= query and (key <= ends[row] or key >= 10)
                    assert bool(bucket.mask[i, q, k]) == allowed


def test_masks_of_the_tokens_read_are_lines_of_the_whole_mask() -> None:
    ends = [9] * 40 + [3] * 40
    token_map = map_of(ends, length=10).append(2, "extra", hidden=(EVERYONE,), rows=80)
    packing = packed(token_map)
    assert isinstance(packing.mask, torch.Tensor)
    for bucket, lines in zip(packing.buckets, packing.read_masks((Read.POOLED, "extra"), torch.float32), strict=True):
        assert isinstance(lines, torch.Tensor)
        assert bucket.rows is not None
        for i, row in enumerate(bucket.rows.tolist()):
            whole = packing.mask[row][[ends[row], 10, 11]]
            assert torch.equal(lines[i], whole[:, bucket.keys])


def test_sequences_without_padding_are_taken_as_they_are() -> None:
    packing = packed(map_of([5, 5, 5], length=6))
    assert packing.packed_index is None
    assert packing.row_order is None


def test_a_map_is_packed_once() -> None:
    token_map = map_of([5, 4, 5], length=6)
    assert packed(token_map) is packed(token_map)
    inserted = token_map.insert(1, 2, "new", hidden=(), shared=True, rows=3)
    assert packed(inserted) is not packed(token_map)
    assert token_map.insert(1, 2, "new", hidden=(), shared=True, rows=3) is inserted

"""Inserting, writing and reading tokens, wherever the prefix ends: the whole sequence is what plain lists give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import EVERYONE, Span, TokenMap, image_map

ROWS, LENGTH, WIDTH = 3, 6, 2
POOL = [3, 5, 4]
PREFIXES = [0, 1, 2, 3]


def tokens(*shape: int, start: float = 0.0) -> Tensor:
    """Numbers that are all different."""
    return torch.arange(start, start + torch.Size(shape).numel()).reshape(shape)


def plain(groups: int = 1) -> Tensor:
    """Tokens (G, N, T, width), the first three of which are the same in all rows."""
    found = tokens(groups, ROWS, LENGTH, WIDTH)
    found[:, :, :3] = found[:, :1, :3].clone()
    return found


def sequences(prefix_len: int, groups: int = 1, **spans: Span) -> Sequences:
    token_map = TokenMap(ROWS, prefix_len, LENGTH, pool=torch.tensor(POOL), spans=spans)
    return Sequences.of(plain(groups), token_map)


def new(groups: int, rows: int, n: int = 2) -> Tensor:
    return tokens(groups, rows, n, WIDTH, start=1000.0)


def everywhere(x: Tensor, groups: int, rows: int = ROWS) -> Tensor:
    return x.expand(groups, rows, *x.shape[2:])


SHAPES = [(1, 1), (1, ROWS), (2, 1), (2, ROWS)]
cut_anywhere = pytest.mark.parametrize("prefix_len", PREFIXES)
any_shape = pytest.mark.parametrize(("groups", "rows"), SHAPES)


@cut_anywhere
def test_a_sequence_is_cut_and_whole_again(prefix_len: int) -> None:
    x = sequences(prefix_len)
    assert x.prefix.shape == (1, prefix_len, WIDTH)
    assert x.suffix.shape == (1, ROWS, LENGTH - prefix_len, WIDTH)
    assert torch.equal(x.whole(), plain())
    assert torch.equal(x.split(1).whole(), plain())
    assert x.split(1).map.prefix_len == min(prefix_len, 1)


@any_shape
@cut_anywhere
@pytest.mark.parametrize("at", [1, 2, 4])
def test_inserted_tokens_are_at_the_given_position(prefix_len: int, groups: int, rows: int, at: int) -> None:
    added = new(groups, rows)
    found = sequences(prefix_len).insert(at, added, "new")
    old = everywhere(plain(), groups)
    expected = torch.cat([old[:, :, :at], everywhere(added, groups), old[:, :, at:]], dim=2)
    assert torch.equal(everywhere(found.whole(), groups), expected)
    assert torch.equal(everywhere(found.read("new"), groups), everywhere(added, groups))
    assert found.map.length == LENGTH + 2
    assert found.map.rows == ROWS


def test_shared_tokens_join_the_prefix_and_others_end_it() -> None:
    x = sequences(3)
    assert x.insert(1, new(1, 1), "new").map.prefix_len == 5
    assert x.insert(3, new(1, 1), "new").map.prefix_len == 5
    assert x.insert(1, new(1, ROWS), "new").map.prefix_len == 1
    assert x.insert(4, new(1, 1), "new").map.prefix_len == 3


def test_tokens_by_group_make_groups_of_the_prefix_alone() -> None:
    found = sequences(3).insert(1, new(2, 1), "new")
    assert (found.prefix.shape[0], found.suffix.shape[0]) == (2, 1)


@any_shape
@cut_anywhere
def test_appended_tokens_are_at_the_end(prefix_len: int, groups: int, rows: int) -> None:
    added = new(groups, rows)
    found = sequences(prefix_len).append(added, "new", hidden=(EVERYONE,))
    expected = torch.cat([everywhere(plain(), groups), everywhere(added, groups)], dim=2)
    assert torch.equal(everywhere(found.whole(), groups), expected)
    assert torch.equal(found.read("new"), everywhere(added, groups))
    assert found.map.hidden == {"new": (EVERYONE,)}


@any_shape
@cut_anywhere
@pytest.mark.parametrize("start", [0, 1, 2, 4])
@pytest.mark.parametrize("blend", [1.0, 0.25])
def test_a_span_is_written_over(prefix_len: int, groups: int, rows: int, start: int, blend: float) -> None:
    written = new(groups, rows)
    found = sequences(prefix_len, words=Span(start, 2)).rewrite("words", written, blend)
    expected = everywhere(plain(), groups).clone()
    expected[:, :, start : start + 2] = blend * written + (1 - blend) * expected[:, :, start : start + 2]
    assert torch.equal(everywhere(found.whole(), groups), expected)
    assert torch.equal(everywhere(found.read("words"), groups), expected[:, :, start : start + 2])


@any_shape
@cut_anywhere
@pytest.mark.parametrize("blend", [1.0, 0.25])
def test_a_span_at_other_positions_in_each_row_is_written_over(
    prefix_len: int, groups: int, rows: int, blend: float
) -> None:
    positions = torch.tensor([[1, 2], [4, 5], [2, 4]])
    written = new(groups, rows)
    found = sequences(prefix_len, words=Span.scattered(positions)).rewrite("words", written, blend)
    expected = everywhere(plain(), groups).clone()
    for row, places in enumerate(positions.tolist()):
        old = expected[:, row, places].clone()
        expected[:, row, places] = blend * everywhere(written, groups)[:, row] + (1 - blend) * old
    assert torch.equal(everywhere(found.whole(), groups), expected)
    rows_read = torch.stack([expected[:, row, places] for row, places in enumerate(positions.tolist())], dim=1)
    assert torch.equal(everywhere(found.read("words"), groups), rows_read)


def test_writing_shared_tokens_leaves_the_prefix_whole() -> None:
    assert sequences(3, words=Span(1, 2)).rewrite("words", new(1, 1)).map.prefix_len == 3
    assert sequences(3, words=Span(1, 2)).rewrite("words", new(1, ROWS)).map.prefix_len == 1
    assert sequences(3, words=Span(2, 2)).rewrite("words", new(1, 1)).map.prefix_len == 2


def test_one_sequence_becomes_several_where_its_tokens_differ() -> None:
    """Passes of an image: one row until the tokens of each pass enter."""
    image = Sequences.of(tokens(2, 1, 5, WIDTH), image_map(5))
    passes = image.append(new(1, 3), "new")
    assert passes.suffix.shape == (2, 3, 7, WIDTH)
    assert passes.map.rows == 3
    over = image.name_span("over", 1, 2).rewrite("over", new(1, 3))
    assert over.suffix.shape == (2, 3, 5, WIDTH)
    assert over.map.rows == 3


@cut_anywhere
def test_the_pooled_token_is_found_in_each_row(prefix_len: int) -> None:
    expected = torch.stack([plain()[:, row, end] for row, end in enumerate(POOL)], dim=1)[:, :, None]
    assert torch.equal(sequences(prefix_len).read_pooled(), expected)
    moved = sequences(prefix_len).insert(1, new(1, 1), "new").append(new(1, 1), "more")
    assert torch.equal(moved.read_pooled(), expected)
    some = sequences(prefix_len).select(1, 3)
    assert torch.equal(some.read_pooled(), expected[:, 1:])


def test_a_tower_that_pools_its_first_token_reads_that() -> None:
    x = Sequences.of(tokens(2, 1, 5, WIDTH), image_map(5))
    assert torch.equal(x.insert(1, new(1, 1), "new").read_pooled(), tokens(2, 1, 5, WIDTH)[:, :, :1])


def test_some_rows_are_those_rows() -> None:
    positions = torch.tensor([[1, 2], [4, 5], [2, 4]])
    some = sequences(1, words=Span.scattered(positions)).select(1, 3)
    assert torch.equal(some.whole(), plain()[:, 1:])
    assert torch.equal(some.read("words")[:, 0], plain()[:, 1, [4, 5]])


def test_a_change_leaves_the_sequences_it_was_made_from() -> None:
    x = sequences(2, words=Span(1, 2))
    before = replace(x)
    x.insert(1, new(1, 1), "new")
    x.rewrite("words", new(1, ROWS), 0.5)
    assert torch.equal(x.whole(), plain())
    assert x.map is before.map


def test_gradients_reach_what_was_written_and_what_was_kept() -> None:
    written = new(1, 1).requires_grad_()
    x = sequences(3, words=Span(1, 2)).rewrite("words", written, 0.25)
    x.whole().sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(written.grad, torch.full_like(written, 0.25 * ROWS))  # type: ignore[arg-type]

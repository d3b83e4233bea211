"""Token positions after each change of a sequence, counted by hand."""

from __future__ import annotations

import torch

from vlmadapt.core.token_map import EVERYONE, Span, TokenMap, image_map

CPU = torch.device("cpu")


def texts() -> TokenMap:
    """Two texts of 8 tokens that share `start a`, with two learned vectors after that."""
    return TokenMap(2, 2, 8, pool=torch.tensor([5, 7]), spans={"context": Span(2, 2)})


def pooled(token_map: TokenMap) -> list[int]:
    assert token_map.pool is not None
    return token_map.pool.tolist()


def test_tokens_inserted_before_all_that_has_a_name_move_it() -> None:
    found = texts().insert(1, 3, "new", hidden=(), shared=True, rows=2)
    assert (found.rows, found.prefix_len, found.length) == (2, 5, 11)
    assert pooled(found) == [8, 10]
    assert (found.spans["new"].start, found.spans["new"].length) == (1, 3)
    assert (found.spans["context"].start, found.spans["context"].length) == (5, 2)
    assert not found.hidden


def test_tokens_that_differ_by_row_do_not_join_the_prefix() -> None:
    found = texts().split_prefix(1).insert(1, 3, "new", hidden=(EVERYONE,), shared=False, rows=2)
    assert (found.prefix_len, found.length) == (1, 11)
    assert found.hidden == {"new": (EVERYONE,)}


def test_only_tokens_at_or_after_the_position_move() -> None:
    found = texts().insert(6, 1, "new", hidden=(), shared=False, rows=2)
    assert pooled(found) == [5, 8]
    assert found.spans["context"].start == 2
    assert texts().insert(5, 1, "new", hidden=(), shared=False, rows=2).pool.tolist() == [6, 8]  # type: ignore[union-attr]
    assert texts().insert(2, 1, "new", hidden=(), shared=False, rows=2).spans["context"].start == 3


def test_positions_that_differ_by_row_move_row_by_row() -> None:
    span = Span.scattered(torch.tensor([[1, 2], [3, 4]]))
    assert span.shifted(2, 10).positions.tolist() == [[1, 12], [13, 14]]  # type: ignore[union-attr]
    assert span.select(1, 2).positions.tolist() == [[3, 4]]  # type: ignore[union-attr]
    assert Span(3, 2).select(1, 2).start == 3


def test_own_tokens_keep_their_places_and_inserted_ones_have_none() -> None:
    found = texts().insert(1, 2, "new", hidden=(), shared=True, rows=2).append(1, "last", hidden=("everyone",), rows=2)
    assert found.places.tolist() == [1, 0, 0, 2, 3, 4, 5, 6, 7, 8, 0]
    assert found.own_length == 8
    assert texts().alias("learned", "context").places.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_appended_tokens_come_after_the_padding_and_remember_where_it_ended() -> None:
    once = texts().append(2, "a", hidden=(), rows=2)
    twice = once.append(3, "b", hidden=(EVERYONE,), rows=2)
    assert (once.length, once.appended, pooled(once)) == (10, 8, [5, 7])
    assert (twice.length, twice.appended, twice.hidden) == (13, 8, {"b": (EVERYONE,)})
    assert (twice.spans["a"].start, twice.spans["b"].start, twice.spans["b"].length) == (8, 10, 3)
    moved = twice.insert(1, 4, "c", hidden=(), shared=True, rows=2)
    assert (moved.appended, moved.spans["a"].start, moved.spans["b"].start) == (12, 12, 14)
    assert twice.insert(9, 4, "d", hidden=(), shared=False, rows=2).appended == 8


def test_the_prefix_never_grows_by_a_split() -> None:
    assert texts().split_prefix(1).prefix_len == 1
    assert texts().split_prefix(6).prefix_len == 2


def test_some_rows_keep_their_own_positions() -> None:
    spans = {"words": Span.scattered(torch.tensor([[3], [4], [5]])), "context": Span(1, 1)}
    whole = TokenMap(3, 1, 9, pool=torch.tensor([6, 7, 8]), spans=spans, hidden=frozenset({"context"}), appended=9)
    some = whole.select(1, 3)
    assert (some.rows, some.prefix_len, some.length, some.appended) == (2, 1, 9, 9)
    assert pooled(some) == [7, 8]
    assert some.spans["words"].positions.tolist() == [[4], [5]]  # type: ignore[union-attr]
    assert some.spans["context"].start == 1
    assert some.hidden == {"context"}
    assert whole.select(0, 3) is whole


def test_a_named_span_moves_nothing() -> None:
    found = texts().name_span("over", 1, 2)
    assert (found.length, found.prefix_len, pooled(found)) == (8, 2, [5, 7])
    assert (found.spans["over"].start, found.spans["over"].length) == (1, 2)
    assert set(found.spans) == {"context", "over"}


def test_a_span_may_have_two_names() -> None:
    found = texts().alias("learned", "context")
    assert found.spans["learned"] is found.spans["context"]
    assert found is not texts().alias("learned", "context")
    assert found.insert(1, 2, "new", hidden=(), shared=True, rows=2).spans["learned"].start == 4


def test_one_row_becomes_many() -> None:
    one = image_map(5)
    assert one.with_rows(1) is one
    assert one.with_rows(4).rows == 4
    assert one.pool is None


def test_the_same_change_gives_the_same_map() -> None:
    token_map = texts()
    changes = [
        lambda m: m.insert(1, 2, "new", hidden=(), shared=True, rows=2),
        lambda m: m.append(2, "new", hidden=(EVERYONE,), rows=2),
        lambda m: m.split_prefix(1),
        lambda m: m.select(0, 1),
        lambda m: m.with_rows(3),
        lambda m: m.name_span("over", 1, 2),
        lambda m: m.alias("learned", "context"),
    ]
    for change in changes:
        assert change(token_map) is change(token_map)
        assert change(token_map) is not change(texts())


def test_another_change_gives_another_map() -> None:
    token_map = texts()
    first = token_map.insert(1, 2, "new", hidden=(), shared=True, rows=2)
    others = [
        token_map.insert(1, 2, "new", hidden=(EVERYONE,), shared=True, rows=2),
        token_map.insert(1, 2, "new", hidden=(), shared=False, rows=2),
        token_map.insert(1, 2, "other", hidden=(), shared=True, rows=2),
        token_map.insert(1, 3, "new", hidden=(), shared=True, rows=2),
        token_map.insert(2, 2, "new", hidden=(), shared=True, rows=2),
        token_map.append(2, "new", hidden=(), rows=2),
    ]
    assert all(first is not other for other in others)
    assert token_map.length == 8, "a map never changes itself"


def test_index_tensors_are_made_once_and_may_enter_a_graph() -> None:
    token_map, made = texts(), []

    def make() -> torch.Tensor:
        made.append(torch.ones(2))
        return made[-1]

    with torch.inference_mode():
        first = token_map.index("ones", CPU, make)
    assert token_map.index("ones", CPU, make) is first
    assert len(made) == 1
    assert not first.is_inference()
    (torch.ones(2, requires_grad=True) * first).sum().backward()  # type: ignore[no-untyped-call]


def test_index_tensors_of_a_map_are_not_those_of_its_changes() -> None:
    token_map = texts()
    token_map.index("pool", CPU, lambda: torch.tensor(1))
    moved = token_map.insert(1, 1, "new", hidden=(), shared=True, rows=2)
    assert int(moved.index("pool", CPU, lambda: torch.tensor(2))) == 2


def test_images_of_one_size_share_a_map() -> None:
    assert image_map(7) is image_map(7)
    assert (image_map(7).rows, image_map(7).prefix_len, image_map(7).length) == (1, 0, 7)

"""A block does what its formula says, whatever is shared, packed or left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from tests.core.block_by_hand import (
    ALL_SITES,
    LENGTH,
    PARTS,
    POOL,
    ROWS,
    WIDTH,
    Parts,
    RelativeParts,
    assert_as_by_hand,
    branch,
    by_hand,
    earlier,
    packing,
    texts,
    tokens,
)
from vlmadapt.core import cost
from vlmadapt.core.block import read_tokens, run_block, run_last_block, run_local
from vlmadapt.core.hooks import (
    MLP,
    BlockAdapter,
    Read,
    Site,
)
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import EVERYONE, Span, TokenMap, image_map


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def by_length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With a bucket for each length, or with all padding."""
    monkeypatch.setitem(cost.TOKENS_PER_KERNEL, "cpu", 0.0)
    return bool(request.param)


@pytest.mark.parametrize("adapters", [(), ALL_SITES, (branch(MLP, 1), branch(MLP, 2))], ids=["none", "all", "two"])
@pytest.mark.parametrize("prefix_len", [0, 1, 3])
def test_a_causal_block(by_length: bool, prefix_len: int, adapters: tuple[BlockAdapter, ...]) -> None:
    x = texts(prefix_len, groups=2)
    out = run_block(PARTS, x, packing(x, by_length), adapters)
    assert out.map is x.map
    assert out.prefix.shape[1] == prefix_len
    assert_as_by_hand(out.whole(), x.whole(), adapters)


@pytest.mark.parametrize("replace", [False, True], ids=["added", "replacing"])
@pytest.mark.parametrize("site", list(Site))
def test_each_site_alone_gets_its_own_input(by_length: bool, site: Site, replace: bool) -> None:
    x, adapter = texts(2), branch(site, 7, replace)
    plain = run_block(PARTS, x, packing(x, by_length), ())
    out = run_block(PARTS, x, packing(x, by_length), (adapter,))
    assert not torch.allclose(out.suffix, plain.suffix)
    assert_as_by_hand(out.whole(), x.whole(), (adapter,))


def test_padding_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost.TOKENS_PER_KERNEL, "cpu", 0.0)
    seen: list[int] = []
    parts = Parts()
    monkeypatch.setattr(parts, "mlp", lambda x: (seen.append(x.shape[1]), x)[1])
    x = texts(2)
    out = run_block(parts, x, packing(x, True), ())
    assert seen == [2 + sum(end + 1 - 2 for end in POOL)]
    assert not out.suffix[0, 0, POOL[0] + 1 - 2 :].any()


def test_tokens_of_an_image_all_see_each_other() -> None:
    x = Sequences.of(tokens(2, 1, 5), image_map(5))
    out = run_block(PARTS, x, packing(x, True, causal=False), ALL_SITES).whole()
    for group in range(2):
        expected = by_hand(x.whole()[group, 0], [list(range(5))] * 5, ALL_SITES)
        torch.testing.assert_close(out[group, 0], expected)


def test_read_only_tokens_see_the_image_and_nobody_sees_them() -> None:
    x = Sequences.of(tokens(1, 1, 5), image_map(5)).append(tokens(1, 1, 2), "hidden", hidden=(EVERYONE,))
    out = run_block(PARTS, x, packing(x, True, causal=False), ()).whole()
    torch.testing.assert_close(out[0, 0], by_hand(x.whole()[0, 0], [list(range(5))] * 7))


def test_tokens_hidden_from_patches_are_seen_by_all_others() -> None:
    """CLS, four patches, two hidden tokens, one more that is hidden from them and from a group that is not there."""
    x = Sequences.of(tokens(1, 1, 5), image_map(5)).append(tokens(1, 1, 2), "new", hidden=("patches",))
    x = x.append(tokens(1, 1, 1), "last", hidden=("new", "later"))
    out = run_block(PARTS, x, packing(x, True, causal=False), ()).whole()
    all_of_them, patches = list(range(8)), [0, 1, 2, 3, 4, 7]
    seen = [all_of_them, *[patches] * 4, *[list(range(7))] * 2, all_of_them]
    torch.testing.assert_close(out[0, 0], by_hand(x.whole()[0, 0], seen))


@pytest.mark.parametrize("hidden", [(EVERYONE,), ()], ids=["hidden", "seen"])
def test_tokens_appended_to_a_text_see_no_padding(by_length: bool, hidden: tuple[str, ...]) -> None:
    x = texts(2).append(tokens(1, 1, 2), "new", hidden=hidden)
    out = run_block(PARTS, x, packing(x, by_length), ()).whole()
    for row, end in enumerate(POOL):
        seen = earlier(LENGTH)
        for t in (LENGTH, LENGTH + 1):
            appended = [] if hidden else list(range(LENGTH, t + 1))
            seen.append([*range(end + 1), *appended])
        kept = [*range(end + 1), LENGTH, LENGTH + 1]
        torch.testing.assert_close(out[0, row, kept], by_hand(x.whole()[0, row], seen)[kept])


def distance_bias(own: Sequence[int]) -> Callable[[int, int, int], float]:
    """What `RelativeParts` adds where the tower's own tokens are those at `own`."""

    def bias(head: int, query: int, key: int) -> float:
        if query not in own or key not in own:
            return 0.0
        distance = own.index(key) - own.index(query)
        return math.cos(2 * distance) * distance if head else math.sin(distance)

    return bias


def test_relative_positions_are_added_between_words_and_not_for_inserted_tokens(by_length: bool) -> None:
    """Texts with a mask for padding, two tokens before the third word, and one appended."""
    padding = torch.arange(LENGTH) > torch.tensor(POOL)[:, None]
    token_map = TokenMap(ROWS, 0, LENGTH, pool=torch.tensor(POOL), padding=padding)
    x = Sequences.of(tokens(2), token_map).insert(2, tokens(1, 1, 2), "new").append(tokens(1, 1, 1), "last")
    parts, packed = RelativeParts(), packing(x, by_length, causal=False)
    out = run_block(parts, x, packed, ())
    own = [0, 1, 4, 5, 6, 7]
    for row, end in enumerate(POOL):
        kept = [*range(end + 3), 8]
        expected = by_hand(x.whole()[1, row], [kept] * 9, scale=0.3, bias=distance_bias(own))
        torch.testing.assert_close(out.whole()[1, row, kept], expected[kept])
    reads = (Read.POOLED, "new", "last")
    found = run_last_block(parts, x, packed, (), reads)
    for read in reads:
        torch.testing.assert_close(found[read], read_tokens(out, reads)[read].expand_as(found[read]))


def test_passes_of_an_image_that_share_a_tile_have_relative_positions_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cost.QUERIES_PER_TILE, "cpu", 64)
    x = Sequences.of(tokens(2, 2, 5), image_map(5).with_rows(2)).append(tokens(1, 1, 2), "hidden", hidden=(EVERYONE,))
    packed = packing(x, True, causal=False)
    assert packed.buckets[0].together == 2
    out = run_block(RelativeParts(), x, packed, ())
    for row in range(2):
        seen = [list(range(5))] * 7
        expected = by_hand(x.whole()[0, row], seen, scale=0.3, bias=distance_bias(range(5)))
        torch.testing.assert_close(out.whole()[0, row], expected)
    found = run_last_block(RelativeParts(), x, packed, (), (Read.POOLED, "hidden"))
    torch.testing.assert_close(found["hidden"], out.whole()[:, :, 5:])
    torch.testing.assert_close(found[Read.POOLED], out.whole()[:, :, :1])


READS: list[tuple[Read | str, ...]] = [
    (Read.POOLED,),
    ("words",),
    ("scattered", Read.POOLED),
    (Read.POOLED, "words", "scattered"),
]


@pytest.mark.parametrize("adapters", [(), ALL_SITES], ids=["none", "all"])
@pytest.mark.parametrize("reads", READS, ids=" ".join)
@pytest.mark.parametrize("prefix_len", [0, 3])
def test_the_last_block_gives_what_is_read_of_the_whole_one(
    by_length: bool, prefix_len: int, reads: tuple[Read | str, ...], adapters: tuple[BlockAdapter, ...]
) -> None:
    spans = {"words": Span(1, 2), "scattered": Span.scattered(torch.tensor([[1, 3], [2, 5], [3, 4]]))}
    token_map = TokenMap(ROWS, prefix_len, LENGTH, pool=torch.tensor(POOL), spans=spans)
    x = Sequences.of(tokens(2, same=3), token_map)
    whole = run_block(PARTS, x, packing(x, by_length), adapters)
    found = run_last_block(PARTS, x, packing(x, by_length), adapters, reads)
    expected = read_tokens(whole, reads)
    assert list(found) == list(reads)
    for read in reads:
        torch.testing.assert_close(found[read], expected[read].expand_as(found[read]))


def test_the_last_block_computes_only_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    parts = Parts()
    monkeypatch.setattr(parts, "mlp", lambda x: (seen.append(tuple(x.shape)), x)[1])
    x = texts(2)
    run_last_block(parts, x, packing(x, True), (), (Read.POOLED,))
    assert seen == [(1, ROWS, 1, WIDTH)]


def test_all_tokens_may_be_read_of_an_image() -> None:
    x = Sequences.of(tokens(2, 1, 5), image_map(5))
    found = run_last_block(PARTS, x, packing(x, True, causal=False), ALL_SITES, (Read.POOLED, Read.ALL))
    whole = run_block(PARTS, x, packing(x, True, causal=False), ALL_SITES).whole()
    torch.testing.assert_close(found[Read.ALL], whole)
    torch.testing.assert_close(found[Read.POOLED], whole[:, :, :1])


def test_local_tokens_attend_to_themselves_alone() -> None:
    x = Sequences.of(tokens(2, 1, 5), image_map(5))
    found = run_local(PARTS, x, ALL_SITES)
    for group, image in zip(found, x.whole(), strict=True):
        torch.testing.assert_close(group[0], by_hand(image[0], [[t] for t in range(5)], ALL_SITES))


def test_gradients_of_a_packed_block_are_those_of_a_padded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost.TOKENS_PER_KERNEL, "cpu", 0.0)
    gradients = []
    for by_length in (True, False):
        x = texts(2)
        x.prefix.requires_grad_()
        x.suffix.requires_grad_()
        out = run_block(PARTS, x, packing(x, by_length), ALL_SITES).read_pooled()
        gradients.append(torch.autograd.grad(out.square().sum(), [x.prefix, x.suffix]))
    torch.testing.assert_close(gradients[0], gradients[1])

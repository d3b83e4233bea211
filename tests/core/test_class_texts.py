"""Token ids of a class list: as short as exactness allows, with the prefix that all classes share."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from tests.core.words import PAD, START, Words
from vlmadapt.core import cost
from vlmadapt.core.backbone import TextTower
from vlmadapt.core.class_texts import ClassTexts
from vlmadapt.core.injection import CONTEXT_SPAN
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.templates import Template

NAMES = ("red_fox", "cat", "big red fox")


class Tower(Words):
    """As much of a text tower as ids ask for; a token is embedded as its id and its position."""

    device = torch.device("cpu")
    causal = True
    pooled = ()

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.stack([ids, torch.arange(ids.shape[1]).expand_as(ids)], dim=-1).float()


@pytest.fixture(autouse=True)
def free_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TOKENS_PER_KERNEL", {"cpu": 0.0, "cuda": 1e9})


def write(template: str, names: tuple[str, ...] = NAMES, plan: str = "planned", **changes: Any) -> ClassTexts:
    tower = Tower(context=12)
    for name, value in changes.items():
        setattr(tower, name, value)
    return ClassTexts.write(Template.parse(template), names, cast(TextTower, tower), Optimizations.named(plan))


def shape(texts: ClassTexts) -> tuple[int, int, int]:
    """Classes, shared tokens, tokens."""
    assert texts.ids.shape == (texts.map.rows, texts.map.length)
    return texts.map.rows, texts.map.prefix_len, texts.map.length


def test_texts_end_with_the_longest_and_share_what_is_the_same() -> None:
    texts = write("a photo of {}.")
    assert shape(texts) == (3, 4, 9)  # start a photo of | big red fox . end
    assert texts.map.pool is not None
    assert texts.map.pool.tolist() == [7, 6, 8]
    assert texts.ids[:, 0].tolist() == [START] * 3
    assert texts.ids[1, 7:].tolist() == [PAD, PAD]
    assert len({tuple(row) for row in texts.ids[:, :4].tolist()}) == 1
    assert len(set(texts.ids[:, 4].tolist())) == 3


@pytest.mark.parametrize(
    ("plan", "expected"),
    [("planned-truncate", (3, 4, 12)), ("planned-shared-prefix", (3, 0, 9)), ("reference", (3, 0, 12))],
)
def test_each_saving_can_be_left_out(plan: str, expected: tuple[int, int, int]) -> None:
    assert shape(write("a photo of {}.", plan=plan)) == expected


def test_nothing_is_left_out_where_tokens_see_later_ones() -> None:
    assert shape(write("a photo of {}.", causal=False)) == (3, 0, 12)


def test_a_prefix_pays_only_where_it_saves_more_than_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PREFIX_KERNELS", 8)
    monkeypatch.setattr(cost, "TOKENS_PER_KERNEL", {"cpu": 1.0, "cuda": 1e9})
    assert shape(write("a photo of {}."))[1] == 4  # two of three classes save four tokens each: just enough
    assert shape(write("photo of {}."))[1] == 0


def test_learned_vectors_may_be_shared() -> None:
    texts = write("[2] of {}.")
    assert shape(texts)[1] == 4
    span = texts.map.spans[CONTEXT_SPAN]
    assert (span.start, span.length, span.positions) == (1, 2, None)


def test_learned_vectors_after_the_name_have_other_positions_in_each_text() -> None:
    positions = write("{} [2].").map.spans[CONTEXT_SPAN].positions
    assert positions is not None
    assert positions.tolist() == [[3, 4], [2, 3], [4, 5]]
    assert CONTEXT_SPAN not in write("a {}.").map.spans


def test_the_pooled_token_is_never_shared() -> None:
    """Two classes with one name have the same text; its end is still each one's own."""
    texts = write("a {}.", names=("cat", "cat"))
    assert shape(texts) == (2, 4, 5)
    assert texts.map.pool is not None
    assert texts.map.pool.tolist() == [4, 4]


def test_a_text_within_another_is_shared_up_to_its_end() -> None:
    assert shape(write("a {}", names=("cat", "cat tail")))[1] == 3


def test_embedded_texts_are_cut_into_prefix_and_suffix() -> None:
    texts = write("a photo of {}.")
    x = texts.embed(cast(TextTower, Tower()), 0, 3)
    assert x.prefix.shape == (1, 4, 2)
    assert x.suffix.shape == (1, 3, 5, 2)
    assert torch.equal(x.whole()[0, :, :, 0].long(), texts.ids)
    assert x.whole()[0, 0, :, 1].tolist() == list(range(9))
    some = texts.embed(cast(TextTower, Tower()), 1, 3)
    assert torch.equal(some.whole()[0, :, :, 0].long(), texts.ids[1:])
    assert some.map.rows == 2

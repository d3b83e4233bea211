"""A tower that, run block by block, does not give what the model itself gives is refused when it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.backbone.blocks import ResidualAttentionBlock
from vlmadapt.core.loading import check, untrained
from vlmadapt.core.loading.check import check_towers
from vlmadapt.errors import BackboneError


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def backbone(shared: Backbone) -> Iterator[Backbone]:
    """A copy that a test may spoil."""
    yield deepcopy(shared)


class Spoiled:
    """A view of a block with one part replaced."""

    def __init__(self, parts: Any, name: str, part: Any):
        self._parts = parts
        setattr(self, name, part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)


def spoil(tower: Any, name: str, part: Callable[[ResidualAttentionBlock], Any]) -> None:
    """Replace a part of the tower's second block."""
    first, second, *rest = tower.blocks
    tower.blocks = (first, Spoiled(second, name, part(second)), *rest)


def refusal(backbone: Backbone) -> str:
    with pytest.raises(BackboneError) as refused:
        check_towers(backbone)
    assert "\n" not in str(refused.value)
    return str(refused.value)


PARTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "no first norm": ("norm1", lambda b: lambda x: x),
    "no second norm": ("norm2", lambda b: lambda x: x),
    "another activation": ("mlp", lambda b: lambda x: b.mlp(x.relu())),
    "a scaled residual": ("output", lambda b: lambda x: 1.05 * b.output(x)),
    "keys and values exchanged": ("query_key_value", lambda b: lambda x: [b.query_key_value(x)[i] for i in (0, 2, 1)]),
    "not a number": ("mlp", lambda b: lambda x: b.mlp(x) * math.nan),
}


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("fault", PARTS)
def test_a_block_that_is_misunderstood_is_refused(backbone: Backbone, side: str, fault: str) -> None:
    spoil(getattr(backbone, side), *PARTS[fault])
    message = refusal(backbone)
    assert (
        f"the {side} tower of '{backbone.name}', run block by block, does not give what the model itself gives"
        in message
    )
    assert "this kind of model is not supported" in message


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_wrong_norm_after_the_blocks_is_refused(
    backbone: Backbone, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(backbone, side), "norm", lambda x: x)
    assert f"the {side} tower" in refusal(backbone)


def test_a_text_that_sees_later_tokens_is_refused(backbone: Backbone) -> None:
    backbone.text.causal = False
    assert "the text tower" in refusal(backbone)


def test_a_wrong_pooled_token_is_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone.text, "end", lambda ids: ids.argmax(dim=-1) - 1)
    assert "the text tower" in refusal(backbone)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_block_that_cannot_be_put_together_is_refused(backbone: Backbone, side: str) -> None:
    spoil(getattr(backbone, side), "norm2", lambda b: lambda x: x[..., :-1])
    assert f"the {side} tower of '{backbone.name}' cannot be run block by block (" in refusal(backbone)


def test_a_tower_that_is_understood_is_taken(backbone: Backbone) -> None:
    check_towers(backbone)


def test_towers_without_blocks_and_backbones_without_weights_are_not_compared(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_compare", lambda *a: pytest.fail("it was compared"))
    check_towers(untrained("ViT-B-32"))
    backbone.image.blocks = backbone.text.blocks = ()
    check_towers(backbone)


@pytest.mark.parametrize(("difference", "right"), [(0.0, True), (9e-4, True), (1.1e-3, False), (math.nan, False)])
def test_the_largest_difference_allowed_is_a_thousandth_of_the_largest_value(difference: float, right: bool) -> None:
    expected: Tensor = torch.tensor([[-1.0, 0.0]])
    found = expected + torch.tensor([[0.0, difference]])
    if right:
        check._compare("name", "text", found, expected)
    else:
        with pytest.raises(BackboneError, match="does not give what the model itself gives"):
            check._compare("name", "text", found, expected)

"""Branches that mix the tokens of a sequence: what they get, where their output goes, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.core import families
from vlmadapt import Backbone
from vlmadapt.core.backbone import ImageTower
from vlmadapt.core.hooks import Hook
from vlmadapt.core.merge import merged_model
from vlmadapt.core.mixing import over_all_tokens
from vlmadapt.core.plan import Plan, derive
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.templates import Template
from vlmadapt.core.token_map import image_map
from vlmadapt.errors import AdapterError, BackboneError, PluginError
from vlmadapt.plugin import AFTER_MLP, HIDDEN, IMAGE, NORM1, PATCHES, ROW, TEXT, adapt

WIDTH = 3


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


def planned(backbone: Backbone, *hooks: Hook) -> Plan:
    return derive(hooks, backbone, (Template.parse("a {}."),))


def through(backbone: Backbone, hook: Any) -> tuple[Tensor, Tensor]:
    """Two images (2, 7, width) of CLS, two inserted tokens and four patches, and what the hook's branch gives."""
    tokens = torch.randn(2, 1, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    x = Sequences.of(tokens, image_map(5)).insert(1, torch.ones(1, 1, 2, WIDTH), "inserted")
    (adapter,) = over_all_tokens([hook], x, backbone.image)
    return x.whole()[:, 0], adapter.branch(x.whole().flatten(1, 2))


def test_a_branch_over_rows_gets_whole_sequences_in_order(backbone: Backbone) -> None:
    tokens, found = through(backbone, adapt(IMAGE, 0, lambda x: x.cumsum(1), mixes=ROW))
    expected = torch.stack([sum(tokens[:, : t + 1].unbind(1)) for t in range(7)], dim=1)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)


def test_a_branch_over_patches_gets_their_grid_and_leaves_other_tokens_alone(backbone: Backbone) -> None:
    """Patches are numbered row by row; each gets here the one below it."""
    assert backbone.image.grid == (2, 2)
    tokens, found = through(backbone, adapt(IMAGE, 0, lambda x: x.roll(1, dims=1), mixes=PATCHES))
    assert not found[:, :3].any()
    assert torch.equal(found[:, 3:], tokens[:, [5, 6, 3, 4]])


def test_a_grid_has_square_patches() -> None:
    def grid(patches: int) -> Any:
        tower = SimpleNamespace(sequence_length=patches + 1, leading=1, size=(32, 48), family="ViT")
        return ImageTower.grid.fget(tower)  # type: ignore[attr-defined]

    assert grid(24) == (4, 6)
    with pytest.raises(BackboneError, match=r"25 patches .* no grid"):
        grid(25)


def test_a_branch_that_gives_fewer_tokens_is_refused(backbone: Backbone) -> None:
    with pytest.raises(PluginError, match=r"block 0 .* turns \(2, 7, 3\) into \(2, 1, 3\)"):
        through(backbone, adapt(IMAGE, 0, lambda x: x.mean(1, keepdim=True), mixes=ROW))


def test_what_cannot_be_mixed_is_refused(backbone: Backbone) -> None:
    with pytest.raises(PluginError, match="of which a text has none"):
        planned(backbone, adapt(TEXT, 1, torch.tanh, mixes=PATCHES))
    with pytest.raises(PluginError, match="cannot replace what other tokens have"):
        planned(backbone, adapt(IMAGE, 1, torch.tanh, replace=True, mixes=PATCHES))
    with pytest.raises(AdapterError, match="mixes the tokens"):
        merged_model(backbone, planned(backbone, adapt(IMAGE, 1, torch.tanh, AFTER_MLP, mixes=ROW)))


def test_a_gated_mlp_has_no_hidden_layer() -> None:
    gated = families.backbone("EVA-02")
    with pytest.raises(BackboneError, match="gated"):
        planned(gated, adapt(IMAGE, 1, torch.tanh, HIDDEN))


def test_only_a_tower_that_mixes_computes_every_token(backbone: Backbone) -> None:
    plan = planned(backbone, adapt(TEXT, 1, torch.tanh, NORM1, mixes=ROW), adapt(IMAGE, 1, torch.tanh, NORM1))
    assert plan.text.mixes
    assert not plan.image.mixes

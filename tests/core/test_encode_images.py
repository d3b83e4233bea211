"""Frozen activations of a batch of images: computed once for each layer, and shared by all passes over the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.plan import Optimizations


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


def by_open_clip(backbone: Backbone, pixels: Tensor, layer: int) -> Tensor:
    """Tokens (B, T, width) before a block."""
    tokens = backbone.image.embed(pixels)
    for block in backbone.model.visual.transformer.resblocks[:layer]:
        tokens = block(tokens)
    return tokens


@pytest.mark.parametrize("plan", ["planned", "reference"])
def test_tokens_before_each_block_are_the_models_own(backbone: Backbone, plan: str) -> None:
    pixels, optimizations = inputs(1, 2, 16).double(), Optimizations.named(plan)
    images = FrozenImages(pixels)
    for layer in (2, 0, 1, 2):
        found = images.rows(backbone.image, layer, optimizations).whole()[:, 0]
        torch.testing.assert_close(found, by_open_clip(backbone, pixels, layer))


def test_they_are_kept_by_layer_in_the_plan_and_not_in_the_reference(backbone: Backbone) -> None:
    images = FrozenImages(inputs(1, 2, 16).double())
    planned, reference = Optimizations(), Optimizations.named("reference")
    kept = images.rows(backbone.image, 1, planned)
    assert images.rows(backbone.image, 1, planned) is kept
    assert images.rows(backbone.image, 2, planned) is not kept
    assert images.rows(backbone.image, 1, reference) is not kept


def test_they_have_no_graph_and_may_enter_one(backbone: Backbone) -> None:
    with torch.inference_mode():
        found = FrozenImages(inputs(1, 2, 16).double()).rows(backbone.image, 1, Optimizations()).suffix
    assert not found.requires_grad
    assert not found.is_inference()


def test_a_tower_that_only_encodes_does_so_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    images = FrozenImages(inputs(1, 2, 16).double())
    monkeypatch.setattr(backbone.image, "blocks", ())
    first = images.output(backbone.image, Optimizations())
    torch.testing.assert_close(first, backbone.model.encode_image(images.pixels))
    monkeypatch.setattr(backbone.image, "encode", lambda pixels: pytest.fail("it was encoded again"))
    assert images.output(backbone.image, Optimizations()) is first

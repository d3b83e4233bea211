from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.plugins.prompt_methods import backbone, build, disturb, forward, published_count, vit_b_16
from vlmadapt import Backbone
from vlmadapt.core.engine import Engine
from vlmadapt.plugin import BackboneError, DataError, ForwardPass, Template


def test_published_number_of_parameters() -> None:
    assert published_count("clip-lora") == 184_320


def test_it_starts_as_zero_shot_clip() -> None:
    x = forward(build("clip-lora"))
    torch.testing.assert_close(x.logits(), x.zero_shot.logits, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def merged(method: nn.Module, gamma: float) -> Backbone:
    """The backbone with gamma B A added to its weights."""
    clip = deepcopy(backbone())
    for blocks, updates in (
        (clip.model.transformer.resblocks, method.text),
        (clip.model.visual.transformer.resblocks, method.image),
    ):
        for layer, matrices in updates.items():
            attention = blocks[int(layer)].attn
            places = dict(zip("qkvo", (*attention.in_proj_weight.chunk(3), attention.out_proj.weight), strict=True))
            for name, update in matrices.items():
                places[name] += gamma * update.b.weight @ update.a.weight
    return clip


@pytest.mark.parametrize("options", [{}, {"matrices": ["q", "o"], "rank": 4, "alpha": 3.0}])
def test_it_equals_updated_weights(options: dict[str, Any]) -> None:
    method = build("clip-lora", **options).eval()
    disturb(*method.parameters())
    gamma = float(options.get("alpha", 1.0)) / float(options.get("rank", 2)) ** 0.5  # type: ignore[arg-type]
    x = forward(method)
    plain = ForwardPass(Engine(merged(method, gamma)), method, x.names, [Template.parse("a photo of a {}.")], x.images)
    torch.testing.assert_close(x.image(), plain.zero_shot.image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.text(), plain.zero_shot.text, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(x.image(), x.zero_shot.image, atol=1e-2)


def test_inputs_are_dropped_in_training_only() -> None:
    method = build("clip-lora", dropout=0.5)
    disturb(*method.parameters())

    def image() -> Tensor:
        return forward(method).image()

    assert not torch.allclose(image(), image(), atol=1e-4)
    method.eval()
    torch.testing.assert_close(image(), image())


@pytest.mark.parametrize(
    ("position", "blocks"),
    [
        ("all", range(12)),
        ("half-up", range(6, 12)),
        ("half-bottom", range(6)),
        ("bottom", range(4)),
        ("mid", range(4, 8)),
        ("up", range(8, 12)),
        ("top3", range(9, 12)),
        ("top2", range(10, 12)),
        ("top1", range(11, 12)),
    ],
)
def test_positions_in_twelve_blocks(position: str, blocks: range) -> None:
    method = build("clip-lora", on=vit_b_16(), position=position, encoder="image")
    assert list(method.image) == [str(layer) for layer in blocks]
    assert list(method.text) == []


def test_options_that_adapt_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="q, k, v, o"):
        build("clip-lora", matrices=[])


def test_a_backbone_that_cannot_be_touched_is_refused() -> None:
    from vlmadapt.core.loading import untrained

    with pytest.raises(BackboneError, match="works inside the image tower"):
        build("clip-lora", on=untrained("RN50"))

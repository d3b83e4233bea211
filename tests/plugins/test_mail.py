"""MAIL."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import small
from tests.parity import tiny_clip
from tests.plugins.prompt_methods import backbone, build, disturb, forward, published_count
from vlmadapt import Backbone
from vlmadapt.core.engine import Engine
from vlmadapt.plugin import IMAGE, TEXT, DataError, ForwardPass, Template

PLACES = ("norm1", "attention", "norm2", "mlp")
WEIGHTS: dict[str, Any] = {"image_loss": 2.0, "text_loss": 4.0, "logits_loss": 1.0}


def of_vit_b_16(text: int, image: int, joint: int, rank: int) -> int:
    """By hand: scales, shifts and map between towers at 48 places, after the last norms, after the projections."""
    inner = 2 * (text + image) + rank * (text + image)
    return 49 * inner + 4 * joint + 2 * rank * joint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, of_vit_b_16(512, 768, 512, 32) + (512 + 768) * 512),
        ({"projections": False, "rank": 12}, of_vit_b_16(512, 768, 512, 12)),
    ],
)
def test_published_number_of_parameters(options: dict[str, Any], expected: int) -> None:
    assert published_count("mail", **options) == expected


def test_it_starts_as_zero_shot_clip() -> None:
    fwd = forward(build("mail"))
    torch.testing.assert_close(fwd.logits(), fwd.zero_shot.logits, rtol=1e-5, atol=1e-4)


def test_all_agents_of_the_blocks_start_with_the_same_map() -> None:
    method = build("mail")
    first = method.norm1["0"].down
    assert all(torch.equal(first, method.get_submodule(f"{place}.{i}").down) for place in PLACES for i in range(3))
    assert not torch.equal(first, method.last_norm.down)


@torch.no_grad()
def merged(method: Any) -> Backbone:
    """The backbone with every agent but the last ones' shift worked into its weights."""
    clip = deepcopy(backbone())
    model = clip.model
    for side, blocks, norm in (
        (TEXT, model.transformer.resblocks, model.ln_final),
        (IMAGE, model.visual.transformer.resblocks, model.visual.ln_post),
    ):

        def affine(agent: Any, linear: Any, side: Any = side) -> None:
            shift = agent(side, torch.zeros_like(linear.bias))
            scale = agent(side, torch.ones_like(linear.bias)) - shift
            linear.weight.copy_(linear.weight * (scale[:, None] if linear.weight.ndim == 2 else scale))
            linear.bias.copy_(linear.bias * scale + shift)

        for layer, block in enumerate(blocks):
            parts = (block.ln_1, block.attn.out_proj, block.ln_2, block.mlp.c_proj)
            for place, part in zip(PLACES, parts, strict=True):
                affine(method.get_submodule(f"{place}.{layer}"), part)
        affine(method.last_norm, norm)
    return clip


def test_agents_equal_updated_weights() -> None:
    method = build("mail", projections=False, rank=4)
    disturb(*method.parameters())
    fwd = forward(method)
    templates = [Template.parse("a photo of a {}.")]
    plain = ForwardPass(Engine(merged(method)), build("clip"), fwd.names, templates, fwd.images)
    for side in (TEXT, IMAGE):
        expected = method.projected(side, plain.features(side))
        torch.testing.assert_close(fwd.features(side), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(fwd.image(), fwd.zero_shot.image, atol=1e-2)


def test_projections_are_trained_copies() -> None:
    method = build("mail")
    for side in (TEXT, IMAGE):
        frozen = backbone().tower(side).projection
        assert torch.equal(method.projections[side.value](), frozen)
        before = forward(method).features(side)
        method.projections[side.value].difference.data += frozen
        torch.testing.assert_close(forward(method).features(side), 2 * before)


@pytest.mark.parametrize(
    ("options", "blocks", "coupled", "outer"),
    [
        ({}, {"0", "1", "2"}, {"0", "1", "2"}, True),
        ({"start": 2, "coupled_end": 2}, {"1", "2"}, {"1"}, True),
        ({"end": 2}, {"0", "1"}, {"0", "1"}, False),
        ({"coupled_end": 0}, {"0", "1", "2"}, set(), True),
        ({"end": 2, "coupled_start": 2}, {"0", "1"}, {"1"}, False),
        ({"end": 12, "published": True}, {"0", "1", "2"}, {"0", "1", "2"}, True),
        ({"end": 3, "published": True}, {"0", "1", "2"}, {"0", "1", "2"}, False),
    ],
)
def test_blocks_with_agents_and_with_coupling(
    options: dict[str, Any], blocks: set[str], coupled: set[str], outer: bool
) -> None:
    """Published code asks for block 12 at the end of every tower; these towers have three."""
    method = build("mail", **options)
    for place in PLACES:
        agents = dict(method.get_submodule(place).named_children())
        assert set(agents) == blocks
        assert {name for name, agent in agents.items() if agent.coupled} == coupled
    for agent in (method.last_norm, method.projected):
        assert bool(list(agent.parameters())) == outer


def test_the_text_side_reaches_the_image_side_and_not_the_other_way() -> None:
    method = build("mail")
    for agent in method.norm1.values():
        disturb(agent.up)
    before = forward(method)
    text, image = before.text(), before.image()
    disturb(method.norm1["1"].scale["image"])
    fwd = forward(method)
    assert torch.equal(fwd.text(), text)
    assert not torch.allclose(fwd.image(), image, atol=1e-4)
    disturb(method.norm1["1"].scale["text"])
    assert not torch.allclose(forward(method).image(), fwd.image(), atol=1e-4)


@pytest.mark.parametrize("options", [{"start": 0}, {"rank": 0}])
def test_numbers_below_one_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="1 or more"):
        build("mail", **options)


def test_consistency_terms_are_computed_where_they_have_a_weight() -> None:
    chosen: tuple[dict[str, Any], ...] = ({}, WEIGHTS)
    names = [[term.name for term in build("mail", **o).losses(forward(build("mail", **o)))] for o in chosen]
    assert names == [["ce"], ["ce", "image", "text", "logits"]]


def test_consistency_terms_are_distances_to_the_frozen_backbone() -> None:
    method = build("mail", **WEIGHTS)
    start = {name: value for name, _, value in method.losses(forward(method)) if name != "ce"}
    assert all(abs(float(value.detach())) < 1e-4 for value in start.values())
    disturb(*method.parameters())
    fwd = forward(method)
    terms = {name: (weight, value) for name, weight, value in method.losses(fwd)}
    frozen, tuned = (F.softmax(x.double(), dim=-1) for x in (fwd.zero_shot.logits, fwd.logits()))
    expected: dict[str, tuple[float, Tensor]] = {
        "image": (2.0, 1 - (fwd.image() * fwd.zero_shot.image).sum(-1).mean()),
        "text": (4.0, 1 - (fwd.text() * fwd.zero_shot.text).sum(-1).mean()),
        "logits": (1.0, (frozen * (frozen / tuned).log()).mean().float()),
    }
    for name, (weight, value) in expected.items():
        assert terms[name][0] == weight
        torch.testing.assert_close(terms[name][1], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("text", "image"), [(3, 2), (2, 3)])
def test_towers_of_different_depths_are_coupled_where_both_have_a_block(tmp_path: Path, text: int, image: int) -> None:
    settings = {**small.SETTINGS, "text_layers": text, "vision_layers": image, "vision_width": 128}
    clip = tiny_clip.load(tmp_path, settings)
    method = build("mail", on=clip)
    assert [agent.coupled for agent in method.norm2.values()] == [True, True, False]
    assert method.last_norm.coupled
    deeper = "text" if text > image else "image"
    assert list(method.mlp["2"].scale) == [deeper]
    templates = [Template.parse("a photo of a {}.")]
    fwd = ForwardPass(Engine(clip), method, small.NAMES, templates, tiny_clip.inputs(1, 2, 16))
    torch.testing.assert_close(fwd.logits(), fwd.zero_shot.logits, rtol=1e-5, atol=1e-4)

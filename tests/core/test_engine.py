"""Every rule of the plan equals the plain computation, for every kind of hook, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import small
from tests.core.hook_shapes import (
    SHAPES,
    WIDTH,
    Synthetic,
    branches_and_class_tokens,
    class_tokens_at_a_deep_layer,
    first_in_both,
    nothing,
)
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core import cost, run_tower
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.plan import Optimizations, derive
from vlmadapt.core.sequences import Sequences
from vlmadapt.errors import PluginError
from vlmadapt.plugin import (
    EMBEDDING,
    IMAGE,
    OVER,
    TEXT,
    Hook,
    Read,
    Side,
    Template,
    adapt,
    head,
    inject,
)

IMAGES = 4
PLANS = ["planned", *(f"planned-{field.name.replace('_', '-')}" for field in fields(Optimizations))]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


def everything(
    backbone: Backbone, plan: str, declare: Callable[[Synthetic], Iterable[Hook]], class_chunk: int = 0
) -> dict[str, Tensor]:
    """All features, the zero-shot branch, and the gradients of a loss that uses them all."""
    method = Synthetic(backbone, declare)
    engine = Engine(backbone, Optimizations.named(plan), class_chunk)
    images = inputs(1, IMAGES, 16).double()
    templates = [Template.parse("a photo of a {}.")]
    for _ in range(2):  # the second pass meets what the first one left in the caches
        x = ForwardPass(engine, method, small.NAMES, templates, images)
        found = {"zero-shot image": x.zero_shot.image, "zero-shot text": x.zero_shot.text}
        for side in (IMAGE, TEXT):
            for name in x.plan.tower(side).heads:
                found[f"{side} {name}"] = x.features(side, name)
        weighted = [
            (f * torch.linspace(-1, 1, f.numel(), dtype=f.dtype).reshape(f.shape)).sum() for f in found.values()
        ]
        loss = torch.stack(weighted).sum()
        for p in method.parameters():
            p.grad = None
        if loss.requires_grad:
            loss.backward()
    assert all(p.grad is not None for p in method.parameters())
    gradients = {f"gradient {name}": p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {**{k: v.detach() for k, v in found.items()}, **gradients}


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_all_plans_agree(backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]) -> None:
    expected = everything(backbone, "reference", declare)
    for plan in PLANS:
        torch.testing.assert_close(everything(backbone, plan, declare), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_chunks_of_classes_change_nothing(backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]) -> None:
    whole, cut = everything(backbone, "planned", declare), everything(backbone, "planned", declare, class_chunk=2)
    torch.testing.assert_close(cut, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_buckets_of_classes_change_nothing(
    backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The few classes of these tests would all go into one bucket; here each length has its own."""
    expected = everything(backbone, "reference", declare)
    monkeypatch.setitem(cost.TOKENS_PER_KERNEL, "cpu", 0.0)
    found = everything(backbone, "planned", declare)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("declare", [nothing, first_in_both, class_tokens_at_a_deep_layer], ids=lambda f: f.__name__)
def test_nothing_computes_more_classes_at_once_than_a_chunk(
    backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        def running(block: Any, x: Sequences, *rest: Any) -> Any:
            seen.extend([x.suffix.shape[1]] if x.map.pool is not None else [])
            return run(block, x, *rest)

        return running

    for name in ("run_block", "run_last_block"):
        monkeypatch.setattr(run_tower, name, watched(getattr(run_tower, name)))
    embed = backbone.text.embed

    def embedding(ids: Tensor) -> Tensor:
        seen.append(len(ids))
        return embed(ids)

    monkeypatch.setattr(backbone.text, "embed", embedding)
    everything(backbone, "planned", declare, class_chunk=2)
    assert set(seen) <= {1, 2}
    assert 2 in seen


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers(backbone: Backbone, tmp_path: Path) -> None:
    expected = everything(backbone, "planned", branches_and_class_tokens)
    compiled = small.backbone(tmp_path).double().compile_blocks()
    found = everything(compiled, "planned", branches_and_class_tokens)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_there_is_no_block_at_the_embedding(backbone: Backbone) -> None:
    method = Synthetic(backbone, lambda m: [adapt(TEXT, EMBEDDING, m.branch("a"))])
    with pytest.raises(PluginError, match="there is none at EMBEDDING"):
        derive(method.hooks(), backbone, [Template.parse("a photo of a {}.")])


def test_a_text_has_no_patches_to_write_over(backbone: Backbone) -> None:
    method = Synthetic(backbone, lambda m: [inject(TEXT, {1: m.t("a", 2, WIDTH)}, at=OVER)])
    with pytest.raises(PluginError, match="OVER replaces the first patches of an image"):
        derive(method.hooks(), backbone, [Template.parse("a photo of a {}.")])


def test_an_untouched_tower_is_open_clips_own(backbone: Backbone) -> None:
    found = everything(backbone, "planned", nothing)
    images = inputs(1, IMAGES, 16).double()
    ids = backbone.text.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in small.NAMES])
    torch.testing.assert_close(found["image pooled"], backbone.model.encode_image(images))
    torch.testing.assert_close(found["text pooled"], backbone.model.encode_text(ids))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_inner_head_reads_what_the_models_own_block_leaves(backbone: Backbone, layer: int) -> None:
    def declare(m: Synthetic) -> Iterable[Hook]:
        yield head(IMAGE, "all", read=Read.ALL, after=layer)
        yield head(TEXT, "eot", after=layer)

    left: dict[Side, Tensor] = {}
    model, images = backbone.model, inputs(1, IMAGES, 16).double()
    blocks = {IMAGE: model.visual.transformer.resblocks[layer], TEXT: model.transformer.resblocks[layer]}
    hooks = [
        b.register_forward_hook(lambda _, __, out, side=side: left.update({side: out})) for side, b in blocks.items()
    ]
    ids = backbone.text.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in small.NAMES])
    with torch.no_grad():
        model.encode_image(images)
        model.encode_text(ids)
    for hook in hooks:
        hook.remove()
    engine = Engine(backbone)
    fwd = ForwardPass(engine, Synthetic(backbone, declare), small.NAMES, [Template.parse("a photo of a {}.")], images)
    torch.testing.assert_close(fwd.features(IMAGE, "all"), left[IMAGE])
    ends = backbone.text.end(ids)
    torch.testing.assert_close(fwd.features(TEXT, "eot")[:, 0], left[TEXT][torch.arange(len(ends)), ends])


def test_kept_text_features_follow_the_parameters(backbone: Backbone) -> None:
    """Text features kept for evaluation are dropped when a parameter or an option changes."""
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    images = inputs(1, IMAGES, 16).double()

    def text() -> Tensor:
        with torch.no_grad():
            return ForwardPass(engine, method, small.NAMES, [Template.parse("a photo of a {}.")], images).features(TEXT)

    before = text()
    assert text() is before
    with torch.no_grad():
        method.tensors["text1"].mul_(-1.0)
    assert not torch.allclose(text(), before)


def test_nothing_below_the_first_touched_layer_has_a_graph(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    x = ForwardPass(engine, method, small.NAMES, [Template.parse("a photo of a {}.")], inputs(1, IMAGES, 16).double())
    seen = set()

    def walk(node: torch.autograd.graph.Node | None) -> None:
        if node is not None and node not in seen:
            seen.add(node)
            for following, _ in node.next_functions:
                walk(following)

    walk(F.normalize(x.features(IMAGE)).sum().grad_fn)
    attentions = [node for node in seen if "attention" in node.name().lower() or "softmax" in node.name().lower()]
    assert len(attentions) == 2, "two blocks are touched, so attention is differentiated twice"

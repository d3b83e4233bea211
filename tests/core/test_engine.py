"""Every rule of the plan equals the plain computation, for every kind of hook, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core import engine as engine_module
from vlmadapt.core import layout as layout_module
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import Forward
from vlmadapt.core.hooks import Site
from vlmadapt.core.plan import Rules, derive
from vlmadapt.core.rows import Rows
from vlmadapt.errors import PluginError
from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    IMAGE,
    OVER,
    TEXT,
    Hook,
    Method,
    Read,
    Side,
    Task,
    Template,
    adapt,
    head,
    inject,
    per_class,
    per_image,
    per_variant,
    prompt,
    teacher,
)

WIDTH, JOINT, IMAGES = 64, 32, 4
PLANS = ["planned", *(f"planned-{field.name.replace('_', '-')}" for field in fields(Rules))]


@dataclass
class NoConfig:
    """No options."""


class Synthetic(Method):
    """A method made of whatever hooks a test wants; `self.t(...)` makes a trainable tensor."""

    Config = NoConfig

    def __init__(self, backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]):
        self.declare = declare
        self.generator = torch.Generator().manual_seed(3)
        super().__init__(NoConfig(), backbone, Task(small.NAMES, ("a photo of a {}.",)))
        self.tensors = nn.ParameterDict()
        list(self.hooks())

    def t(self, name: str, *shape: int, std: float = 0.3) -> Tensor:
        if name not in self.tensors:
            noise = torch.randn(*shape, generator=self.generator, dtype=torch.float64) * std
            self.tensors[name] = nn.Parameter(noise)
        return self.tensors[name]

    def branch(self, name: str) -> Callable[[Tensor], Tensor]:
        weight = self.t(name, WIDTH, WIDTH, std=0.05)
        return lambda x: torch.tanh(x @ weight)

    def hooks(self) -> Iterable[Hook]:
        return self.declare(self)


def nothing(m: Synthetic) -> Iterable[Hook]:
    return ()


def first_in_both(m: Synthetic) -> Iterable[Hook]:
    """MMRL's shape: enter at a middle layer, blended at the next, read by a head with its own projection."""
    for side in (TEXT, IMAGE):
        yield inject(side, {1: m.t(f"{side}1", 3, WIDTH), 2: m.t(f"{side}2", 3, WIDTH)}, at=FIRST, blend=0.7)
    yield head(IMAGE, "extra", read="injected", mean=True, project=m.t("projection", WIDTH, JOINT))


def first_in_text_head(m: Synthetic) -> Iterable[Hook]:
    """A head that reads tokens of the shared prefix."""
    yield inject(TEXT, {0: m.t("a", 2, WIDTH)}, at=FIRST)
    yield head(TEXT, "extra", read="injected", mean=True)


def deep_context(m: Synthetic) -> Iterable[Hook]:
    """MaPLe's shape."""
    yield prompt("[2] of a {}.")
    yield inject(TEXT, {EMBEDDING: m.t("a", 2, WIDTH), 1: m.t("b", 2, WIDTH)}, at=CONTEXT)
    yield inject(IMAGE, {EMBEDDING: m.t("c", 2, WIDTH), 1: m.t("d", 2, WIDTH)}, at=END)


def context_in_the_middle(m: Synthetic) -> Iterable[Hook]:
    yield prompt("[2] {} [3].")
    yield inject(TEXT, {EMBEDDING: m.t("a", 5, WIDTH), 2: m.t("b", 5, WIDTH)}, at=CONTEXT, blend=0.5)


def context_in_front(m: Synthetic) -> Iterable[Hook]:
    yield prompt("{} [3].")
    yield inject(TEXT, {EMBEDDING: m.t("a", 3, WIDTH)}, at=CONTEXT)


def context_per_class(m: Synthetic) -> Iterable[Hook]:
    yield prompt("[3] {}.")
    yield inject(TEXT, {EMBEDDING: per_class(m.t("a", len(small.NAMES), 3, WIDTH))}, at=CONTEXT)


def class_tokens_at_a_deep_layer(m: Synthetic) -> Iterable[Hook]:
    """TCP's shape: tokens made of the frozen text features, replacing shared ones."""
    weight = m.t("map", JOINT, 3 * WIDTH)
    yield prompt("[3] {}.")
    made = per_class(lambda x: (x.zero_shot.text.to(weight) @ weight).unflatten(1, (3, WIDTH)))
    yield inject(TEXT, {EMBEDDING: m.t("a", 3, WIDTH), 2: made}, at=CONTEXT)


def context_per_image(m: Synthetic) -> Iterable[Hook]:
    """CoCoOp's shape."""
    weight = m.t("map", JOINT, WIDTH)
    context = m.t("a", 3, WIDTH)
    yield prompt("[3] {}.")
    shifted = per_image(lambda x: context + (x.image().to(weight) @ weight)[:, None])
    yield inject(TEXT, {EMBEDDING: shifted}, at=CONTEXT)


def variants_of_one_template(m: Synthetic) -> Iterable[Hook]:
    """PLOT's shape."""
    yield prompt("[3] {}.")
    yield inject(TEXT, {EMBEDDING: per_variant(m.t("a", 4, 3, WIDTH))}, at=CONTEXT)
    yield head(IMAGE, "local", read=Read.ALL)


def variants_of_several_templates(m: Synthetic) -> Iterable[Hook]:
    """ProDA's shape, templates in mixed order."""
    yield prompt("{} [4].", "[4] {}.", "[2] {} [2].", "[4] {}.")
    yield inject(TEXT, {EMBEDDING: per_variant(m.t("a", 4, 4, WIDTH))}, at=CONTEXT)


def several_passes(m: Synthetic) -> Iterable[Hook]:
    """PLOT++'s shape."""
    yield inject(IMAGE, {EMBEDDING: per_variant(m.t("a", 3, 2, WIDTH))}, at=END)


def read_only(m: Synthetic) -> Iterable[Hook]:
    """RPO's shape."""
    for side in (TEXT, IMAGE):
        yield inject(side, {EMBEDDING: m.t(side, 3, WIDTH)}, at=END, read_only=True)
        yield head(side, "pairs", read="injected")


def appended_and_seen_in_text(m: Synthetic) -> Iterable[Hook]:
    yield inject(TEXT, {1: m.t("a", 2, WIDTH)}, at=END)
    yield head(TEXT, "extra", read="injected", mean=True)


def branches_everywhere(m: Synthetic) -> Iterable[Hook]:
    for side in (TEXT, IMAGE):
        for site in Site:
            for layer in (1, 2):
                yield adapt(side, layer, m.branch(f"{side}{site}{layer}"), site)


def branches_and_class_tokens(m: Synthetic) -> Iterable[Hook]:
    yield from branches_everywhere(m)
    yield from class_tokens_at_a_deep_layer(m)


def a_teacher(m: Synthetic) -> Iterable[Hook]:
    yield teacher("a {}.", "the photo of one {} in the rain.", unit=False)
    yield from first_in_both(m)


def image_only(m: Synthetic) -> Iterable[Hook]:
    yield inject(IMAGE, {2: m.t("a", 2, WIDTH)}, at=FIRST)


def over_patches(m: Synthetic) -> Iterable[Hook]:
    """ProVP's shape with few tokens."""
    yield inject(IMAGE, {1: m.t("a", 2, WIDTH), 2: m.t("b", 2, WIDTH)}, at=OVER, blend=0.7)
    yield head(IMAGE, "written over", read="injected", mean=True)


SHAPES = [
    nothing, first_in_both, first_in_text_head, deep_context, context_in_the_middle, context_in_front,
    context_per_class, class_tokens_at_a_deep_layer, context_per_image, variants_of_one_template,
    variants_of_several_templates, several_passes, read_only, appended_and_seen_in_text, branches_everywhere,
    branches_and_class_tokens, a_teacher, image_only, over_patches,
]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


def everything(
    backbone: Backbone, plan: str, declare: Callable[[Synthetic], Iterable[Hook]], class_chunk: int = 0
) -> dict[str, Tensor]:
    """All features, the zero-shot branch, and the gradients of a loss that uses them all."""
    method = Synthetic(backbone, declare)
    engine = Engine(backbone, Rules.named(plan), class_chunk)
    images = inputs(1, IMAGES, 16).double()
    templates = [Template.parse("a photo of a {}.")]
    for _ in range(2):  # the second pass meets what the first one left in the caches
        x = Forward(engine, method, small.NAMES, templates, images)
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
    gradients = {f"gradient {name}": p.grad for name, p in method.named_parameters()}
    assert all(g is not None for g in gradients.values())
    return {**{k: v.detach() for k, v in found.items()}, **gradients}


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_all_plans_agree(backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]) -> None:
    expected = everything(backbone, "reference", declare)
    for plan in PLANS:
        found = everything(backbone, plan, declare)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_chunks_of_classes_change_nothing(backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]) -> None:
    whole, cut = everything(backbone, "planned", declare), everything(backbone, "planned", declare, class_chunk=2)
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_buckets_of_classes_change_nothing(
    backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The few classes of these tests would all go into one bucket; here each length has its own."""
    expected = everything(backbone, "reference", declare)
    monkeypatch.setattr(layout_module, "BUCKET", 0)
    found = everything(backbone, "planned", declare)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("declare", [nothing, first_in_both, class_tokens_at_a_deep_layer], ids=lambda f: f.__name__)
def test_nothing_computes_more_classes_at_once_than_a_chunk(
    backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        def running(block: Any, rows: Rows, *rest: Any) -> Any:
            seen.extend([rows.own.shape[1]] if rows.end is not None else [])
            return run(block, rows, *rest)

        return running

    for name in ("run_block", "run_last_block"):
        monkeypatch.setattr(engine_module, name, watched(getattr(engine_module, name)))
    embed = backbone.text.embed
    monkeypatch.setattr(backbone.text, "embed", lambda ids: (seen.append(len(ids)), embed(ids))[1])
    everything(backbone, "planned", declare, class_chunk=2)
    assert set(seen) <= {1, 2}
    assert 2 in seen


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers(backbone: Backbone, tmp_path: Path) -> None:
    expected = everything(backbone, "planned", branches_and_class_tokens)
    compiled = small.backbone(tmp_path).double().compile_blocks()
    found = everything(compiled, "planned", branches_and_class_tokens)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_there_is_no_block_at_the_embedding(backbone: Backbone) -> None:
    method = Synthetic(backbone, lambda m: [adapt(TEXT, EMBEDDING, m.branch("a"))])
    with pytest.raises(PluginError, match="there is none at EMBEDDING"):
        derive(method.hooks(), backbone, [Template.parse("a photo of a {}.")])


def test_a_text_has_no_patches_to_write_over(backbone: Backbone) -> None:
    method = Synthetic(backbone, lambda m: [inject(TEXT, {1: m.t("a", 2, WIDTH)}, at=OVER)])
    with pytest.raises(PluginError, match="OVER stands for the first patches of an image"):
        derive(method.hooks(), backbone, [Template.parse("a photo of a {}.")])


def test_an_untouched_tower_is_open_clips_own(backbone: Backbone) -> None:
    found = everything(backbone, "planned", nothing)
    images = inputs(1, IMAGES, 16).double()
    ids = backbone.text.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in small.NAMES])
    torch.testing.assert_close(found["image class"], backbone.model.encode_image(images))
    torch.testing.assert_close(found["text class"], backbone.model.encode_text(ids))


def test_kept_text_features_follow_the_parameters(backbone: Backbone) -> None:
    """Text features kept for evaluation are dropped when a parameter or an option changes."""
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    images = inputs(1, IMAGES, 16).double()

    def text() -> Tensor:
        with torch.no_grad():
            return Forward(engine, method, small.NAMES, [Template.parse("a photo of a {}.")], images).features(TEXT)

    before = text()
    assert text() is before
    with torch.no_grad():
        method.tensors["text1"].mul_(-1.0)
    assert not torch.allclose(text(), before)


def test_nothing_below_the_first_touched_layer_has_a_graph(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    x = Forward(engine, method, small.NAMES, [Template.parse("a photo of a {}.")], inputs(1, IMAGES, 16).double())
    seen = set()

    def walk(node: torch.autograd.graph.Node | None) -> None:
        if node is not None and node not in seen:
            seen.add(node)
            for following, _ in node.next_functions:
                walk(following)

    walk(F.normalize(x.features(IMAGE)).sum().grad_fn)
    attentions = [node for node in seen if "attention" in node.name().lower() or "softmax" in node.name().lower()]
    assert len(attentions) == 2, "two blocks are touched, so attention is differentiated twice"


def test_side_is_a_word() -> None:
    assert f"{Side.TEXT}" == "text"

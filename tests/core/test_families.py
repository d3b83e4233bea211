"""Every family of towers that opens: exact against its own forward, both plans alike, and trained by every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from tests import small
from tests.core import families, hook_shapes
from tests.core.families import FAMILIES
from tests.core.hook_shapes import Synthetic
from tests.core.test_engine import everything
from vlmadapt import Backbone
from vlmadapt.core.adapter import load_adapter, save_adapter
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.encode_images import FrozenImages, ImageEncoder
from vlmadapt.core.encode_text import TextEncoder
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.frozen_cache import FrozenCache
from vlmadapt.core.hooks import Slot
from vlmadapt.core.method import Task, total
from vlmadapt.core.plan import Optimizations, TowerPlan
from vlmadapt.errors import BackboneError
from vlmadapt.plugin import END, FIRST, IMAGE, Hook, Template, inject
from vlmadapt.roles import Role

SHAPES = [
    hook_shapes.first_in_both,
    hook_shapes.first_in_text_head,
    hook_shapes.deep_context,
    hook_shapes.context_in_the_middle,
    hook_shapes.context_per_class,
    hook_shapes.context_per_image,
    hook_shapes.variants_of_one_template,
    hook_shapes.several_passes,
    hook_shapes.read_only,
    hook_shapes.hidden_from_some,
    hook_shapes.appended_and_seen_in_text,
    hook_shapes.branches_everywhere,
    hook_shapes.tokens_mixed,
    hook_shapes.over_patches,
]
METHODS: dict[str, dict[str, Any]] = {
    "mmrl++": {"layers": [2, 3], "width": 8, "rank": 2, "projection_rank": 2},
    "mmrl": {"layers": [2, 3], "width": 8},
    "coop": {},
    "maple": {"depth": 2},
    "promptsrc": {"text_depth": 2, "image_depth": 2},
    "mma": {"layers": [2, 3], "width": 4},
    "clip-lora": {},
}
TEMPLATES = ("a photo of a {}.",)
SLOW = pytest.mark.slow


ORDINARY = (
    "CLIPA",
    "CoCa",
    "SigLIP",
    "timm ViT with registers",
    "EVA-02",
    "PE",
    "XLM-R",
    "relative positions in both towers",
)
"""One of each kind for the ordinary suite; the others differ from them in details."""


@pytest.fixture(scope="module", params=[pytest.param(f, marks=() if f in ORDINARY else SLOW) for f in FAMILIES])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return families.backbone(request.param)


def images(n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, families.SIZE, families.SIZE, generator=generator, dtype=torch.float64)


def test_both_maps_of_an_mlp_are_the_mlp(backbone: Backbone) -> None:
    """Where it has two: gated ones have none."""
    for tower in (backbone.text, backbone.image):
        for block in tower.blocks[:1]:
            if (maps := block.mlp_maps()) is not None:
                x = torch.randn(2, tower.width, dtype=torch.float64)
                torch.testing.assert_close(maps.rest(maps.first(x)), block.mlp(x))


@pytest.mark.parametrize("plan", [pytest.param("reference", marks=pytest.mark.slow), "planned"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_hooks_a_tower_is_the_models_own(family: str, plan: str) -> None:
    backbone = families.backbone(family)
    optimizations, pixels = Optimizations.named(plan), images()
    untouched = TowerPlan.untouched(backbone.image)
    found = ImageEncoder(backbone.image, optimizations).encode_zero_shot(FrozenImages(pixels), untouched)
    expected = backbone.model.encode_image(pixels, normalize=False)
    # Releases of transformers take the softmax of the first two, and positions of the last, in single precision.
    single = ("AltCLIP", "Chinese-CLIP", "SigLIP 2 NaFlex")
    rtol, atol = (1e-4, 1e-6) if family in single else (1e-9, 1e-9)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    ids = Template.parse(TEMPLATES[0]).write(small.NAMES, backbone.text).ids
    encoder = TextEncoder(backbone.text, optimizations, 2, FrozenCache())
    texts = encoder.encode_plain(small.NAMES, Template.parse(TEMPLATES[0]))
    expected = backbone.model.encode_text(ids, normalize=False)
    torch.testing.assert_close(texts, expected, rtol=rtol, atol=atol)
    assert backbone.image.leading_token.shape == (families.WIDTH,)
    assert found.abs().min() > 0
    assert texts.std(dim=0).min() > 1e-6, "different classes have different features"


@pytest.mark.parametrize("declare", SHAPES, ids=lambda f: f.__name__)
def test_both_plans_agree_in_every_family(
    backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_shapes, "JOINT", backbone.text.joint)
    found, expected = (everything(backbone, plan, declare) for plan in ("planned", "reference"))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradients = [value for name, value in expected.items() if name.startswith("gradient")]
    assert gradients
    assert all(value.abs().max() > 0 for value in gradients), "every declared tensor reaches a feature"


@pytest.mark.parametrize("name", METHODS)
def test_methods_train_are_saved_and_predict_in_every_family(backbone: Backbone, name: str, tmp_path: Path) -> None:
    backbone.model.float()
    torch.manual_seed(0)
    method = build_method(name, backbone, Task(small.NAMES, TEMPLATES), METHODS[name])
    classifier = Classifier(backbone, method, TEMPLATES)
    pixels, labels = images().float(), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        total(list(method.losses(classifier.forward(pixels, small.NAMES, labels)))).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        optimizer.step()
    save_adapter(tmp_path, name, method, backbone, TEMPLATES)
    loaded, _ = load_adapter(tmp_path, backbone)
    expected = classifier.scores(pixels, small.NAMES, Role.SEEN)
    assert expected.isfinite().all()
    found = Classifier(backbone, loaded, TEMPLATES).scores(pixels, small.NAMES, Role.SEEN)
    torch.testing.assert_close(found, expected)
    backbone.model.double()


@pytest.mark.parametrize("family", ["SigLIP", "CLIP", "EVA-02"])
def test_zero_shot_logits_are_the_models_own(family: str) -> None:
    backbone = families.backbone(family)
    method = build_method("clip", backbone, Task(small.NAMES, TEMPLATES))
    fwd = Classifier(backbone, method, TEMPLATES).forward(images(), small.NAMES)
    ids = Template.parse(TEMPLATES[0]).write(small.NAMES, backbone.text).ids
    expected = backbone.model.get_logits(images(), ids)[0]
    for logits in (fwd.logits(), fwd.zero_shot.logits):
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    assert (backbone.bias is None) == (family == "CLIP")


INSIDE = [
    "clip-lora", "cocoop", "coop", "kgcoop", "maple", "metaprompt", "mma", "mmrl", "mmrl++", "plot", "plot++", "proda",
    "prograd", "promptsrc", "provp", "rpo", "tcp",
]  # fmt: skip


@pytest.fixture(scope="module", params=["SigLIP", pytest.param("CoCa", marks=SLOW)])
def deep(request: pytest.FixtureRequest) -> Backbone:
    """As deep as the published settings of the methods ask for."""
    deeper = [mock.patch.dict(settings, layers=12) for settings in (families.TEXT, families.VISION)]
    with mock.patch.object(families, "DEPTH", 12), deeper[0], deeper[1]:
        made = families.backbone(request.param)
    made.model.float()
    return made


@pytest.mark.parametrize("name", INSIDE)
def test_every_method_that_works_inside_a_tower_runs_without_start_of_text_and_without_cls(
    deep: Backbone, name: str
) -> None:
    torch.manual_seed(0)
    method = build_method(name, deep, Task(small.NAMES, TEMPLATES), {"tokens": 3} if name == "provp" else {})
    classifier = Classifier(deep, method, TEMPLATES)
    terms = list(method.losses(classifier.forward(images().float(), small.NAMES, torch.tensor([0, 1, 2, 3]))))
    total(terms).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())
    scores = classifier.scores(images().float(), small.NAMES, Role.SEEN)
    assert scores.isfinite().all()
    if (bias := deep.bias) is not None:
        bias.data += 5.0  # a view of the model's own
        moved = classifier.scores(images().float(), small.NAMES, Role.SEEN)
        bias.data -= 5.0
        shift = 0.0 if name in WITHOUT_BIAS else 5.0
        torch.testing.assert_close(moved - scores, torch.full_like(scores, shift), rtol=1e-3, atol=1e-3)


WITHOUT_BIAS = ("metaprompt", "plot", "plot++", "proda", "rpo")
"""Methods whose scores are scale * cosine; those of the others are the model's own logits."""


def by_timm(backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor, at: Slot) -> torch.Tensor:
    """The features with tokens entered before block 1, by timm's own blocks: new tokens have no rotary position."""
    trunk: Any = backbone.model.visual.trunk  # type: ignore[union-attr]
    leading, patches = trunk.num_prefix_tokens, (families.SIZE // 8) ** 2
    if isinstance(trunk, VisionTransformerRelPos):
        return by_timm_with_relative_positions(backbone, pixels, tokens, leading if at is FIRST else leading + patches)
    embedded = trunk.embeds(pixels)[0] if hasattr(trunk, "embeds") else trunk._pos_embed(trunk.patch_embed(pixels))
    x, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
    n, where = len(tokens), leading if at is FIRST else leading + patches
    before = (lambda layer: leading + n if layer and at is FIRST else leading) if rope is not None else None
    for layer, block in enumerate(trunk.blocks):
        if layer == 0:
            x = trunk.norm_pre(x)
        if layer == 1:
            x = torch.cat([x[:, :where], tokens.expand(len(x), -1, -1), x[:, where:]], dim=1)
            if rope is not None and at is END:
                still = torch.cat([torch.zeros(n, rope.shape[1] // 2), torch.ones(n, rope.shape[1] // 2)], dim=1)
                rope = torch.cat([rope, still.to(rope)])
        if before is None:
            x = block(x)
        else:
            with mock.patch.object(block.attn, "num_prefix_tokens", before(layer)):
                x = block(x, rope=rope)
    own = torch.cat([x[:, :where], x[:, where + n :]], dim=1)
    return backbone.model.visual.head(trunk.forward_head(trunk.norm(own)))  # type: ignore[union-attr, operator]


def by_timm_with_relative_positions(
    backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor, where: int
) -> torch.Tensor:
    """The same where positions are relative: nothing is added to scores from or to new tokens, others keep theirs."""
    trunk: Any = backbone.model.visual.trunk  # type: ignore[union-attr]
    x, n = trunk.patch_embed(pixels), len(tokens)
    if trunk.cls_token is not None:
        x = torch.cat([trunk.cls_token.expand(len(x), -1, -1), x], dim=1)
    own = [t for t in range(x.shape[1] + n) if not where <= t < where + n]
    for layer, block in enumerate(trunk.blocks):
        bias = (block.attn.rel_pos or trunk.shared_rel_pos).get_bias()
        if layer:
            if layer == 1:
                x = torch.cat([x[:, :where], tokens.expand(len(x), -1, -1), x[:, where:]], dim=1)
            wider = bias.new_zeros(1, bias.shape[1], x.shape[1], x.shape[1])
            for query, t in enumerate(own):
                wider[:, :, t, own] = bias[:, :, query]
            bias = wider
        with mock.patch.object(block.attn, "rel_pos", None):
            x = block(x, shared_rel_pos=bias)
    return backbone.model.visual.head(trunk.forward_head(trunk.norm(x[:, own])))  # type: ignore[union-attr, operator]


TIMM = [name for name, (make, _) in FAMILIES.items() if "with_timm" in make.__code__.co_names]


@pytest.mark.parametrize("at", [FIRST, END])
@pytest.mark.parametrize("family", TIMM)
def test_inserted_tokens_have_no_position_and_are_not_pooled(family: str, at: Slot) -> None:
    backbone = families.backbone(family)
    method = Synthetic(backbone, lambda m: [inject(IMAGE, {1: m.t("a", 2, families.WIDTH)}, at=at)])
    engine = Engine(backbone, Optimizations.named("reference"))
    found = ForwardPass(engine, method, small.NAMES, [Template.parse(TEMPLATES[0])], images()).features(IMAGE)
    expected = by_timm(backbone, images(), method.tensors["a"], at)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


HALF = (
    "SigLIP",
    "EVA-02",
    "PE",
    "CoCa",
    "timm ViT with registers",
    "XLM-R",
    "SigLIP of transformers",
    "relative positions",
)


@pytest.mark.parametrize("family", [family for family in HALF if family in FAMILIES])
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=SLOW)])
def test_a_family_runs_in_half_precision(family: str, dtype: torch.dtype) -> None:
    """Norms of heads, rotary positions and pooling give float32 where the rest is bfloat16, as they do on a GPU."""
    backbone = families.backbone(family)
    backbone.model.float()
    template, pixels = [Template.parse(TEMPLATES[0])], images().float()
    method = build_method("mmrl++", backbone, Task(small.NAMES, TEMPLATES), METHODS["mmrl++"])
    expected = ForwardPass(Engine(backbone), method, small.NAMES, template, pixels)
    logits = expected.logits().detach(), expected.logits("representation").detach()
    backbone.hold_weights_in(dtype)
    half = Engine(backbone, precision=dtype)
    found = ForwardPass(half, method, small.NAMES, template, pixels, torch.tensor([0, 1, 2, 3]))
    scale = float(backbone.scale.detach())
    torch.testing.assert_close(found.logits().float(), logits[0], rtol=0, atol=0.03 * scale)
    torch.testing.assert_close(found.logits("representation").float(), logits[1], rtol=0, atol=0.03 * scale)
    total(list(method.losses(found))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.skipif("mT5" not in FAMILIES, reason="needs transformers")
def test_mt5_runs_in_bfloat16_and_is_refused_in_float16() -> None:
    backbone = families.backbone("mT5")
    backbone.model.float()
    names, template = small.NAMES, Template.parse(TEMPLATES[0])
    expected = TextEncoder(backbone.text, Optimizations(), 0, FrozenCache()).encode_plain(names, template)
    with pytest.raises(BackboneError, match="MT5Stack may leave the range of float16; run it in bf16 or fp32"):
        backbone.hold_weights_in(torch.float16)
    backbone.hold_weights_in(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = TextEncoder(backbone.text, Optimizations(), 0, FrozenCache()).encode_plain(names, template)
    similar = torch.cosine_similarity(found.float(), expected)
    assert similar.min() > 0.999


WHERE_PROJECTIONS_TELL = ("SigLIP", "EVA-02", "XLM-R")


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f in WHERE_PROJECTIONS_TELL else SLOW) for f in FAMILIES]
)
@pytest.mark.parametrize("name", ["prolip", "mail", "2sfs"])
def test_methods_of_projections_and_norms_start_as_the_model_or_name_others(family: str, name: str) -> None:
    """A bias after the matrix, a query that pools, norms after the parts: none may change the features unseen."""
    backbone = families.backbone(family)
    backbone.model.float()
    try:
        method = build_method(name, backbone, Task(small.NAMES, TEMPLATES))
    except BackboneError as error:
        refused = backbone.image.pooled if name != "2sfs" else "norms after" in family
        texts = ("XLM-R", "BERT with its own pooler", "BiomedCLIP", "AltCLIP")
        assert refused or (name == "mail" and family in texts), error
        assert any(other in str(error) for other in ("clip-adapter", "clip-lora")), error
        return
    fwd = Classifier(backbone, method, TEMPLATES).forward(images().float(), small.NAMES, torch.tensor([0, 1, 2, 3]))
    head = "trained" if name == "prolip" else "pooled"
    found, expected = fwd.image(head), fwd.zero_shot.image
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fwd.text(), fwd.zero_shot.text, rtol=1e-4, atol=1e-4)
    total(list(method.losses(fwd))).backward()
    trained = {n: p for n, p in method.named_parameters() if n != "classifier"}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())

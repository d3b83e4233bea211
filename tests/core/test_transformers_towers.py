"""Towers of transformers: inserted tokens, padding and pooling, compared with the modules of that package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers")

from tests import small  # noqa: E402
from tests.core import families  # noqa: E402
from tests.core import transformers_families as made  # noqa: E402
from tests.core.hook_shapes import Synthetic  # noqa: E402
from vlmadapt import Backbone  # noqa: E402
from vlmadapt.core.backbone.transformers_blocks import transformers_view  # noqa: E402
from vlmadapt.core.backbone.transformers_text import wrapped_encoder  # noqa: E402
from vlmadapt.core.class_texts import ClassTexts  # noqa: E402
from vlmadapt.core.engine import Engine  # noqa: E402
from vlmadapt.core.forward import ForwardPass  # noqa: E402
from vlmadapt.core.hooks import Slot  # noqa: E402
from vlmadapt.core.packing import pack  # noqa: E402
from vlmadapt.core.plan import Optimizations  # noqa: E402
from vlmadapt.plugin import CONTEXT, EMBEDDING, END, FIRST, IMAGE, TEXT, Side, Template, inject, prompt  # noqa: E402

TEMPLATE = Template.parse("a photo of a {}.")
PLANS = ("reference", "planned")


def features(backbone: Backbone, plan: str, side: Side, layer: int, at: Slot, n: int = 2) -> tuple[Tensor, Tensor]:
    """Features of a tower with tokens entered at a layer, and the tokens."""
    hooks = [prompt(f"[{n}] {{}}.")] if at is CONTEXT else []
    method = Synthetic(backbone, lambda m: [*hooks, inject(side, {layer: m.t("a", n, made.WIDTH)}, at=at)])
    pixels = torch.randn(3, 3, made.SIZE, made.SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = ForwardPass(Engine(backbone, Optimizations.named(plan)), method, small.NAMES, [TEMPLATE], pixels)
    return found.features(side), method.tensors["a"]


def encoder(backbone: Backbone) -> Any:
    return backbone.model.text  # type: ignore[union-attr]


def run(layers: Any, x: Tensor, seen: Tensor) -> Tensor:
    """Blocks of transformers, for tokens (N, T, width) of which those `seen` (N, T) may be attended to."""
    for layer in layers:
        out = layer(x, attention_mask=seen[:, None, None, :].expand(-1, 1, x.shape[1], -1))
        x = out if isinstance(out, Tensor) else out[0]
    return x


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("at", [FIRST, END])
def test_tokens_entered_into_xlm_r_are_seen_and_not_averaged(plan: str, at: Slot) -> None:
    backbone = families.backbone("XLM-R")
    found, tokens = features(backbone, plan, TEXT, 1, at)
    text, ids = encoder(backbone), TEMPLATE.write(small.NAMES, backbone.text).ids
    seen = ids.ne(1)
    x = run(text.transformer.encoder.layer[:1], text.transformer.embeddings(input_ids=ids), seen)
    where = 1 if at is FIRST else x.shape[1]
    entered = torch.cat([x[:, :where], tokens.expand(len(x), -1, -1), x[:, where:]], dim=1)
    wider = torch.cat([seen[:, :where], torch.ones(len(x), 2, dtype=torch.bool), seen[:, where:]], dim=1)
    out = run(text.transformer.encoder.layer[1:], entered, wider)
    own = torch.cat([out[:, :where], out[:, where + 2 :]], dim=1)
    mean = torch.stack([row[mask].mean(0) for row, mask in zip(own, seen, strict=True)])
    torch.testing.assert_close(found, text.proj(mean), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("at", [FIRST, END])
def test_tokens_entered_into_mt5_have_no_position_and_words_keep_their_distances(plan: str, at: Slot) -> None:
    backbone = families.backbone("mT5")
    found, tokens = features(backbone, plan, TEXT, 1, at)
    stack, ids = encoder(backbone).transformer, TEMPLATE.write(small.NAMES, backbone.text).ids
    seen, length = ids.ne(0), ids.shape[1]
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)
    x = stack.embed_tokens(ids)
    x = stack.block[0](x, lowest(seen), bias)[0]
    where = 0 if at is FIRST else length
    own = [t for t in range(length + 2) if not where <= t < where + 2]
    x = torch.cat([x[:, :where], tokens.expand(len(x), -1, -1), x[:, where:]], dim=1)
    wider, also = bias.new_zeros(1, bias.shape[1], length + 2, length + 2), torch.ones(len(x), length + 2).bool()
    for query, t in enumerate(own):
        wider[:, :, t, own] = bias[:, :, query]
    also[:, own] = seen
    for block in stack.block[1:]:
        x = block(x, lowest(also), wider)[0]
    normed = stack.final_layer_norm(x[:, own])
    mean = torch.stack([row[mask].mean(0) for row, mask in zip(normed, seen, strict=True)])
    torch.testing.assert_close(found, encoder(backbone).proj(mean), rtol=1e-9, atol=1e-9)


def lowest(seen: Tensor) -> Tensor:
    """What mT5 adds to scores of tokens that may not be seen (N, T), for (N, heads, query, key)."""
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, float("-inf"))[:, None, None]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", ["XLM-R", "BERT with its own pooler", "NLLB", "mT5"])
def test_learned_words_get_what_words_get(family: str, plan: str) -> None:
    """The position, the type of the text and the norm of the embedding: as if they stood in the table of words."""
    backbone = families.backbone(family)
    found, tokens = features(backbone, plan, TEXT, EMBEDDING, CONTEXT)
    text = encoder(backbone)
    table = text.transformer.get_input_embeddings().weight
    ids = Template.parse("X X {}.").write(small.NAMES, backbone.text).ids
    first = backbone.text.leading
    assert (ids[:, first] == ids[:, first + 1]).all()
    ids[:, first], ids[:, first + 1] = made.VOCABULARY - 1, made.VOCABULARY - 2
    scale = getattr(text.transformer.get_input_embeddings(), "embed_scale", 1.0)
    with torch.no_grad():
        table[made.VOCABULARY - 1], table[made.VOCABULARY - 2] = tokens / scale
        torch.testing.assert_close(found, text(ids), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["CLIP of transformers", "SigLIP of transformers"])
@pytest.mark.parametrize("at", [FIRST, END])
def test_tokens_entered_into_an_image_have_no_position_and_are_not_pooled(family: str, at: Slot) -> None:
    backbone = families.backbone(family)
    found, tokens = features(backbone, "planned", IMAGE, 1, at)
    model: Any = backbone.model.model  # type: ignore[union-attr]
    vision, siglip = model.vision_model, family.startswith("SigLIP")
    pixels = torch.randn(3, 3, made.SIZE, made.SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = vision.embeddings(pixels)
    x = x if siglip else vision.pre_layrnorm(x)
    seen = torch.ones(x.shape[:2], dtype=torch.bool)
    x = run(vision.encoder.layers[:1], x, seen)
    where = (0 if siglip else 1) if at is FIRST else x.shape[1]
    entered = torch.cat([x[:, :where], tokens.expand(len(x), -1, -1), x[:, where:]], dim=1)
    out = run(vision.encoder.layers[1:], entered, torch.ones(entered.shape[:2], dtype=torch.bool))
    own = vision.post_layernorm(torch.cat([out[:, :where], out[:, where + 2 :]], dim=1))
    expected = vision.head(own) if siglip else model.visual_projection(own[:, 0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_padding_is_computed_in_no_tower_that_masks_it() -> None:
    text = families.backbone("XLM-R").text
    names = ("cat", "dog", *[f"name of {i} words {'word ' * 9}" for i in range(40)])
    short, full = (ClassTexts.write(TEMPLATE, names, text, Optimizations.named(p)) for p in ("planned", "reference"))
    assert (short.map.length, full.map.length) == (20, made.CONTEXT)
    packing = pack(short.map, text.device, causal=False, by_length=True)
    assert [bucket.shape for bucket in packing.buckets] == [(2, 8), (40, 20)]
    siglip = families.backbone("SigLIP of transformers").text
    seen = ClassTexts.write(TEMPLATE, names, siglip, Optimizations.named("planned"))
    assert seen.map.length == made.CONTEXT, "SigLIP's texts see their padding"
    assert len(pack(seen.map, text.device, causal=False, by_length=True).buckets) == 1


def test_a_pooling_or_a_tower_that_is_not_known_does_not_open() -> None:
    assert (
        wrapped_encoder(made.wrapped(transformers.XLMRobertaConfig(**made.ROBERTA), "max_pooler", "mlp").text) is None
    )
    t5 = transformers.T5Config(d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=16, vocab_size=64)
    text = made.wrapped(transformers.XLMRobertaConfig(**made.ROBERTA), "mean_pooler", "mlp").text
    text.transformer = transformers.T5EncoderModel(t5).encoder
    assert wrapped_encoder(text) is None
    assert transformers_view(text.transformer.block[0]) is None

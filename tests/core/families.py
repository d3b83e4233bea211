"""One small random backbone of each family of towers, all in float64 and with the same widths of tokens."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest import mock

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from vlmadapt import Backbone

WIDTH, SIZE, DEPTH, CONTEXT = 64, 16, 3, 40
VISION = {"image_size": SIZE, "layers": DEPTH, "width": WIDTH, "patch_size": 8, "head_width": 32}
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": DEPTH}
MULTIMODAL = {**TEXT, "mlp_ratio": 1, "layers": 1}
SIGLIP_TEXT = {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}


class Pieces:
    """A tokenizer like SigLIP's: no start of text, and the id that ends a text fills the context too."""

    context_length = CONTEXT
    end, padding = 1, 1

    def __call__(self, texts: Sequence[str], context_length: int = CONTEXT) -> Tensor:
        return torch.stack([self._padded(text, context_length) for text in texts])

    def _padded(self, text: str, length: int) -> Tensor:
        words = text.lower().replace(".", " . ").split()
        ids = [2 + zlib.crc32(word.encode()) % 40000 for word in words][: length - 1]
        return torch.tensor([*ids, self.end, *[self.padding] * (length - len(ids) - 1)])


class Pieces2(Pieces):
    """SigLIP 2's: padding has an id of its own."""

    padding = 0


def clip(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any) -> nn.Module:
    return open_clip.CLIP(32, VISION | (vision or {}), TEXT | (text or {}), **changes)


def custom(text: dict[str, Any]) -> nn.Module:
    return open_clip.CustomTextCLIP(32, VISION, TEXT | text)


def padded(text: dict[str, Any]) -> nn.Module:
    """With the mask for padding, which open_clip's configurations cannot ask for yet."""
    made = custom(text)
    made.text.use_pad_mask = True  # type: ignore[union-attr]
    return made


def coca(vision: dict[str, Any], **attributes: bool) -> nn.Module:
    """CoCa's towers: attentional pooling, and a CLS at the end of the text."""
    text = TEXT | {"context_length": CONTEXT, "embed_cls": True, "output_tokens": True}
    made = open_clip.CoCa(32, MULTIMODAL, text, VISION | {"output_tokens": True} | vision)
    for name, value in attributes.items():
        setattr(made.text, name, value)
    return made


def with_timm(name: str, pool: str, proj: str | None, text: dict[str, Any], joint: int = WIDTH, **changes: Any) -> Any:
    """An open_clip model whose image tower is a small version of timm's model `name`."""
    small = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "img_size": SIZE, "patch_size": 8, **changes}
    with mock.patch("open_clip.timm_model.timm.create_model", partial(timm.create_model, **small)):
        visual = TimmModel(name, joint, image_size=SIZE, pool=pool, proj=proj)  # type: ignore[arg-type]
    made = open_clip.CustomTextCLIP(joint, VISION, TEXT | text, init_logit_bias=-10.0)
    made.visual = visual
    return made


Make = Callable[[], Any]

FAMILIES: dict[str, tuple[Make, Make | None]] = {
    "CLIP": (clip, None),
    "CLIPA": (
        lambda: clip(
            {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
            {"pool_type": "last", "no_causal_mask": True},
        ),
        None,
    ),
    "average after the norm": (lambda: clip({"pool_type": "avg"}), None),
    "CoCa": (lambda: coca({"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}), None),
    "CoCa, average of queries": (
        lambda: coca({"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2, "pool_type": "avg"}),
        None,
    ),
    "CoCa, mask in its place": (lambda: coca({}, correct_cls_mask=True), None),
    "both ways with a mask for padding": (lambda: padded({"no_causal_mask": True, "pool_type": "argmax"}), None),
    "SigLIP": (lambda: with_timm("vit_base_patch16_siglip_224", "map", "none", SIGLIP_TEXT), Pieces),
    "SigLIP 2": (lambda: with_timm("vit_base_patch16_siglip_224", "map", "none", SIGLIP_TEXT), Pieces2),
    "timm ViT with CLS": (lambda: with_timm("vit_base_patch16_clip_224", "token", None, {}), None),
    "timm ViT with registers": (
        lambda: with_timm(
            "vit_base_patch16_224", "avg", "linear", {}, reg_tokens=2, init_values=0.3, qk_norm=True, class_token=True
        ),
        None,
    ),
    "relative positions": (lambda: with_timm("vit_relpos_medium_patch16_cls_224", "token", "linear", {}), None),
    "relative positions in a table": (
        lambda: with_timm("vit_relpos_base_patch16_clsgap_224", "avg", None, {}, rel_pos_type="bias"), None
    ),
    "relative positions for all blocks": (lambda: with_timm("vit_srelpos_small_patch16_224", "avg", None, {}), None),
    "relative positions, norms after": (
        lambda: with_timm("vit_relpos_small_patch16_rpn_224", "avg", "linear", {}), None
    ),
    "NaFlex": (
        lambda: with_timm("naflexvit_base_patch16_siglip", "map", "none", SIGLIP_TEXT, pos_embed_grid_size=(3, 3)),
        Pieces2,
    ),
    "EVA-01": (lambda: with_timm("eva_giant_patch14_224", "token", None, {}), None),
    "EVA-02": (lambda: with_timm("eva02_base_patch16_clip_224", "token", None, {}), None),
    "EVA-02 with norms after": (lambda: with_timm("eva02_enormous_patch14_clip_224", "token", None, {}), None),
    "PE": (
        lambda: with_timm(
            "vit_pe_core_base_patch16_224", "map", None, {}, attn_pool_num_heads=2, ref_feat_shape=(2, 2)
        ),
        None,
    ),
    "PE without CLS": (
        lambda: with_timm("vit_pe_core_gigantic_patch14_448", "map", None, {}, attn_pool_num_heads=2), None
    ),
}  # fmt: skip
if find_spec("transformers") is not None:
    from tests.core import transformers_families as made

    def relative() -> Any:
        """mT5, with an image tower whose positions are relative too."""
        model = made.mt5()
        model.visual = with_timm("vit_relpos_medium_patch16_cls_224", "token", "linear", {}, joint=32).visual
        return model

    FAMILIES |= made.FAMILIES | {"relative positions in both towers": (relative, made.as_mt5)}


DRAWN = ("positional", "pos_embed", "token", "latent", "embeddings", "probe", "bias_table")
"""Parts of the names of embeddings, which libraries start near zero."""


def backbone(family: str) -> Backbone:
    """A backbone of a family, every tensor drawn so that nothing is zero or one by chance."""
    make, tokenizer = FAMILIES[family]
    torch.manual_seed(0)
    made = make().double()
    for name, parameter in made.named_parameters():
        if parameter.ndim < 2 and "logit" not in name:
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
        elif any(part in name for part in DRAWN):
            parameter.data = 0.3 * torch.randn_like(parameter)
    tokens = tokenizer() if tokenizer else open_clip.SimpleTokenizer(context_length=CONTEXT)
    found = Backbone(family, made, tokens)
    found.model.double()
    return found

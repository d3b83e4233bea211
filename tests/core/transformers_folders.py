"""Checkpoints of transformers as its users save them: random weights, image processor and tokenizer, in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.core import transformers_families as families

WORDS = (
    "a photo of . X the ' - golden retriever american pit bull terrier boeing 737 800 cat dog jack o lantern red blue"
)


def tokenizer(start: str | None, end: str, padding: str, first: list[str]) -> Any:
    """A tokenizer of whole words; `first` are the tokens with the lowest ids."""
    vocabulary = {word: i for i, word in enumerate([*first, "[UNK]", *WORDS.lower().split()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    single = f"{start} $A {end}" if start else f"$A {end}"
    special = [(token, vocabulary[token]) for token in (start, end) if token]
    made.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token=padding,
        eos_token=end,
        model_max_length=families.CONTEXT,
        padding_side="right",
    )


KINDS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]] = {
    "clip": (
        families.clip,
        lambda: tokenizer("<s>", "</s>", "</s>", ["!", "</s>", "<s>"]),
        lambda: transformers.CLIPImageProcessor(size={"shortest_edge": families.SIZE}, crop_size=families.SIZE),
    ),
    "siglip": (
        families.siglip,
        lambda: tokenizer(None, "</s>", "</s>", ["!", "</s>"]),
        lambda: transformers.SiglipImageProcessor(
            size={"height": families.SIZE, "width": families.SIZE},
            resample=2,
            image_mean=[0.5] * 3,
            image_std=[0.4] * 3,
        ),
    ),
    "siglip2": (
        families.naflex,
        lambda: tokenizer(None, "</s>", "<pad>", ["<pad>", "</s>"]),
        lambda: transformers.Siglip2ImageProcessor(
            patch_size=8, max_num_patches=(families.SIZE // 8) ** 2, image_mean=[0.5] * 3, image_std=[0.4] * 3
        ),
    ),
    "altclip": (
        families.altclip,
        lambda: tokenizer("<s>", "</s>", "<pad>", ["<s>", "<pad>", "</s>"]),
        lambda: transformers.CLIPImageProcessor(size={"shortest_edge": families.SIZE}, crop_size=families.SIZE),
    ),
    "chinese_clip": (
        families.chinese_clip,
        lambda: tokenizer("[CLS]", "[SEP]", "[PAD]", ["[PAD]", "[CLS]", "[SEP]"]),
        lambda: transformers.ChineseCLIPImageProcessor(
            size={"height": families.SIZE, "width": families.SIZE}, do_center_crop=False
        ),
    ),
}


def save(kind: str, folder: Path) -> Path:
    """Save a random checkpoint of a `model_type`."""
    make, make_tokenizer, make_processor = KINDS[kind]
    torch.manual_seed(0)
    model, tokens = make().model, make_tokenizer()
    if kind == "clip":
        model.config.text_config.eos_token_id = tokens.eos_token_id
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 and "logit" not in name:
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    if kind.startswith("siglip"):
        model.logit_scale.data.fill_(2.0)
        model.logit_bias.data.fill_(-10.0)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


def save_open_clip(folder: Path) -> Path:
    """Save an open_clip model with a text tower of transformers (XLM-R), as a folder that open_clip reads."""
    torch.manual_seed(0)
    model = families.xlm_r()
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 and "logit" not in name:
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "text"
    transformers.XLMRobertaConfig(**families.ROBERTA).save_pretrained(text)
    tokenizer("<s>", "</s>", "<pad>", ["<s>", "<pad>", "</s>"]).save_pretrained(folder)
    config = {
        "embed_dim": 32,
        "vision_cfg": families.OPEN_CLIP_VISION,
        "text_cfg": {
            "hf_model_name": str(text), "hf_tokenizer_name": str(folder), "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp", "context_length": families.CONTEXT,
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    # Read from a configuration by name, it has no pooler of its own.
    weights = {name: value for name, value in model.state_dict().items() if "transformer.pooler" not in name}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder

"""Small random models of the package transformers, and open_clip models with its text towers; made without files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
import transformers
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn
from transformers.models.altclip.configuration_altclip import AltCLIPConfig

from vlmadapt.core.backbone.transformers_model import TransformersModel

WIDTH, SIZE, DEPTH, CONTEXT, VOCABULARY = 64, 16, 3, 40, 1000
SHAPE = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": DEPTH, "intermediate_size": 96}
VISION = {**SHAPE, "image_size": SIZE, "patch_size": 8}
BERT: dict[str, Any] = {
    **SHAPE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}
ROBERTA = {**BERT, "max_position_embeddings": CONTEXT + 2, "pad_token_id": 1, "type_vocab_size": 1}
OPEN_CLIP_VISION = {"image_size": SIZE, "layers": DEPTH, "width": WIDTH, "patch_size": 8, "head_width": 32}
NORMS = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Tokens:
    """A tokenizer that hashes words: start of text where there is one, words, end of text, padding."""

    context_length = CONTEXT

    def __init__(self, start: int | None, end: int, padding: int):
        self.start, self.end, self.padding = start, end, padding

    def __call__(self, texts: Sequence[str], context_length: int = CONTEXT) -> Tensor:
        return torch.stack([self._padded(text, context_length) for text in texts])

    def _padded(self, text: str, length: int) -> Tensor:
        words = text.lower().replace(".", " . ").split()
        start = [] if self.start is None else [self.start]
        ids = [*start, *(3 + zlib.crc32(word.encode()) % (VOCABULARY - 5) for word in words)][: length - 1]
        return torch.tensor([*ids, self.end, *[self.padding] * (length - len(ids) - 1)])


def as_bert() -> Tokens:
    return Tokens(start=1, end=2, padding=0)


def as_roberta() -> Tokens:
    return Tokens(start=0, end=2, padding=1)


def as_clip() -> Tokens:
    return Tokens(start=VOCABULARY - 2, end=VOCABULARY - 1, padding=VOCABULARY - 1)


def as_siglip() -> Tokens:
    return Tokens(start=None, end=1, padding=1)


def as_mt5() -> Tokens:
    return Tokens(start=None, end=1, padding=0)


def wrapped(config: Any, pooler: str, projection: str | None) -> Any:
    """An open_clip model whose text tower is a model of transformers."""
    made = open_clip.CustomTextCLIP(32, OPEN_CLIP_VISION, {"layers": 1, "width": WIDTH, "heads": 2, "vocab_size": 8})
    made.text = HFTextEncoder("", 32, config=config, pooler_type=pooler, proj_type=projection)
    return made


def xlm_r() -> nn.Module:
    return wrapped(transformers.XLMRobertaConfig(**ROBERTA), "mean_pooler", "mlp")


def roberta() -> nn.Module:
    return wrapped(transformers.RobertaConfig(**ROBERTA), "mean_pooler", "linear")


def bert() -> nn.Module:
    return wrapped(transformers.BertConfig(**BERT), "cls_pooler", "linear")


def biomed() -> nn.Module:
    return wrapped(transformers.BertConfig(**BERT), "cls_last_hidden_state_pooler", "mlp")


def nllb() -> nn.Module:
    config = transformers.M2M100Config(
        d_model=WIDTH, encoder_layers=DEPTH, encoder_attention_heads=2, encoder_ffn_dim=96, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=96, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT,
        pad_token_id=1,
    )  # fmt: skip
    return with_encoder(config)


def with_encoder(config: Any, pooler: str = "cls_pooler") -> Any:
    """The same with the encoder of an encoder-decoder, which open_clip takes where it knows the model by name."""
    made = wrapped(transformers.BertConfig(**{**BERT, "hidden_size": config.d_model}), pooler, "linear")
    made.text.transformer, made.text.config = transformers.AutoModel.from_config(config).encoder, config
    return made


def mt5() -> nn.Module:
    config = transformers.MT5Config(
        d_model=WIDTH, d_kv=WIDTH // 2, num_heads=2, num_layers=DEPTH, num_decoder_layers=1, d_ff=96,
        vocab_size=VOCABULARY, relative_attention_num_buckets=8, relative_attention_max_distance=12, pad_token_id=0,
    )  # fmt: skip
    made = with_encoder(config, "mean_pooler")
    for layer in made.text.transformer.modules():
        for name, child in layer.named_children():
            if type(child).__name__ == "MT5LayerNorm":  # takes the variance in float32, whatever the model's precision
                setattr(layer, name, nn.RMSNorm(WIDTH, eps=child.variance_epsilon))
    return made


def dual(model: Any) -> nn.Module:
    preprocess = {"size": SIZE, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", **NORMS}
    return TransformersModel(model, preprocess)


def clip() -> nn.Module:
    text = {**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": VOCABULARY - 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
    return dual(transformers.CLIPModel(config))


def old_clip() -> nn.Module:
    text = {**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
    return dual(transformers.CLIPModel(config))


def siglip() -> nn.Module:
    text = {**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "projection_size": WIDTH}
    return dual(transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION)))


def naflex() -> nn.Module:
    text = {**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "projection_size": WIDTH}
    vision = {**SHAPE, "patch_size": 8, "num_patches": (SIZE // 8) ** 2}
    return dual(transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision)))


def altclip() -> nn.Module:
    config = AltCLIPConfig(text_config={**ROBERTA, "project_dim": 48}, vision_config=VISION, projection_dim=32)
    return dual(transformers.AltCLIPModel(config))


def chinese_clip() -> nn.Module:
    config = transformers.ChineseCLIPConfig(text_config=BERT, vision_config=VISION, projection_dim=32)
    return dual(transformers.ChineseCLIPModel(config))


FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "XLM-R": (xlm_r, as_roberta),
    "RoBERTa": (roberta, as_roberta),
    "BERT with its own pooler": (bert, as_bert),
    "BiomedCLIP": (biomed, as_bert),
    "NLLB": (nllb, as_roberta),
    "mT5": (mt5, as_mt5),
    "CLIP of transformers": (clip, as_clip),
    "CLIP of transformers, older": (old_clip, as_clip),
    "SigLIP of transformers": (siglip, as_siglip),
    "SigLIP 2 NaFlex": (naflex, as_siglip),
    "AltCLIP": (altclip, as_roberta),
    "Chinese-CLIP": (chinese_clip, as_bert),
}

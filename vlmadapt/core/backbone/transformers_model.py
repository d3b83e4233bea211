"""A dual encoder of the package `transformers`, with the interface of open_clip's models that backbones use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone.transformers_image import ClipImage, NaflexImage, SiglipImage, TransformersImage
from vlmadapt.core.backbone.transformers_text import (
    TransformersText,
    altclip_text,
    chinese_clip_text,
    clip_text,
    siglip_text,
)


class Family(NamedTuple):
    """How a kind of checkpoint is read.

    Attributes:
        model: name of its class in `transformers`.
        text: finds its text transformer.
        image: class of its image transformer.
    """

    model: str
    text: Callable[[Any], TransformersText]
    image: type[TransformersImage]


FAMILIES: Mapping[str, Family] = {
    "clip": Family("CLIPModel", clip_text, ClipImage),
    "siglip": Family("SiglipModel", siglip_text, SiglipImage),
    "siglip2": Family("Siglip2Model", siglip_text, NaflexImage),
    "altclip": Family("AltCLIPModel", altclip_text, ClipImage),
    "chinese_clip": Family("ChineseCLIPModel", chinese_clip_text, ClipImage),
}
"""By `model_type` of a checkpoint's configuration; SigLIP 2 of a fixed resolution says `siglip`, NaFlex `siglip2`."""


class TransformersModel(nn.Module):
    """A model of `transformers` with `encode_image`, `encode_text`, `visual`, `text`, a logit scale and a bias.

    Args:
        model: the model.
        preprocess: the images that it was trained on, as open_clip describes them.

    Attributes:
        visual: its image transformer.
        text: its text transformer.
    """

    def __init__(self, model: Any, preprocess: dict[str, Any]):
        super().__init__()
        family = FAMILIES[model.config.model_type]
        self.model = model
        self.visual = family.image(model.vision_model, getattr(model, "visual_projection", nn.Identity()), preprocess)
        self.text = family.text(model)

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the logit scale."""
        scale: Tensor = self.model.logit_scale
        return scale

    @property
    def logit_bias(self) -> Tensor | None:
        """SigLIP's logit bias."""
        bias: Tensor | None = getattr(self.model, "logit_bias", None)
        return bias

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Images (B, 3, H, W) -> features (B, joint), by the model's own forward."""
        return _features(self.model.get_image_features(**self.visual.inputs(images)), normalize)

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """Padded ids (N, context) -> features (N, joint), by the model's own forward."""
        padding = self.text.padding(ids)
        mask = None if padding is None else (~padding).long()
        return _features(self.model.get_text_features(input_ids=ids, attention_mask=mask), normalize)


def _features(output: Any, normalize: bool) -> Tensor:
    features: Tensor = output.pooler_output
    return F.normalize(features, dim=-1) if normalize else features

"""A frozen dual encoder with its tokenizer and image transforms."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone.compiled import CompiledParts
from vlmadapt.core.backbone.identity import activations, tokenizer_sha256, weights_sha256
from vlmadapt.core.backbone.image_tower import ImageTower
from vlmadapt.core.backbone.precision import cast_weights
from vlmadapt.core.backbone.text_tower import TextTower
from vlmadapt.core.side import TEXT, Side
from vlmadapt.deprecated import warn_deprecated

Tower = ImageTower | TextTower


class Backbone(nn.Module):
    """An open_clip model, frozen and in eval mode, seen as two towers.

    `vlmadapt.load_backbone` makes one from a name and verifies that running it block by block is exact.

    Attributes:
        name: name it was loaded by, `NAME[:PRETRAINED]`.
        text: text tower, with the tokenizer.
        image: image tower.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any):
        super().__init__()
        self.name = name
        self.model: Any = model.float().eval().requires_grad_(False)
        self.text = TextTower(model, tokenizer)
        self.image = ImageTower(model)
        self._identity: dict[str, Any] | None = None

    @classmethod
    def load(cls, spec: str) -> Backbone:
        """Deprecated: `vlmadapt.load_backbone`."""
        warn_deprecated("Backbone.load", "vlmadapt.load_backbone")
        # Imported by name: `loading` depends on this module, not the other way round.
        loaded: Backbone = import_module("vlmadapt.core.loading").load_backbone(spec)
        return loaded

    @property
    def scale(self) -> Tensor:
        """Logit scale, exp of its stored logarithm."""
        return self.model.logit_scale.exp().reshape(())

    @property
    def bias(self) -> Tensor | None:
        """The logit bias of SigLIP and its like; None in CLIP."""
        bias: Tensor | None = getattr(self.model, "logit_bias", None)
        return None if bias is None else bias.reshape(())

    def logits(self, cosines: Tensor) -> Tensor:
        """The model's own logits of cosines (..., classes): times its scale, plus its bias where it has one."""
        logits = self.scale * cosines
        return logits if self.bias is None else logits + self.bias

    @property
    def preprocess_config(self) -> dict[str, Any]:
        """Image preprocessing as open_clip describes it: size, mean, std, interpolation, resize mode."""
        return self.model.visual.preprocess_cfg

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.scale.device

    def tower(self, side: Side) -> Tower:
        """The tower of a side."""
        return self.text if side is TEXT else self.image

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode whatever `mode` is: a backbone is frozen."""
        return super().train(False)

    def compile_blocks(self) -> Backbone:
        """Compile the blocks' linear maps, norms and MLPs with torch when first used; needs a C++ compiler."""
        for tower in (self.text, self.image):
            tower.blocks = tuple(CompiledParts(block) for block in tower.blocks)
        return self

    def hold_weights_in(self, dtype: torch.dtype) -> Backbone:
        """Store the weights that dominate the cost in half precision, to be run under autocast to it.

        `identity` stays that of the loaded weights.
        """
        self._identity = self.identity()
        if dtype is torch.float16:
            for tower in (self.text, self.image):
                tower.hold_blocks_in(dtype)
        cast_weights(self.model, dtype)
        return self

    def fingerprint(self) -> str:
        """SHA-256 of all weights."""
        return weights_sha256(self.model)

    def identity(self) -> dict[str, Any]:
        """Everything that this backbone's features depend on: weights, activation, preprocessing, tokenizer."""
        return self._identity or {
            "sha256": self.fingerprint(),
            "activation": activations(self.model),
            "preprocess": json.loads(json.dumps(getattr(self.model.visual, "preprocess_cfg", {}))),
            "tokenizer": tokenizer_sha256(self.text.tokenize),
        }

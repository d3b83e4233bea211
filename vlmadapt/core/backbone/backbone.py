"""A frozen dual encoder with its tokenizer and image transforms."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone.check import check_towers
from vlmadapt.core.backbone.compiled import CompiledParts
from vlmadapt.core.backbone.tower import ImageTower, TextTower
from vlmadapt.core.hooks import TEXT, Side


class Backbone(nn.Module):
    """An open_clip model, frozen and in eval mode, seen as two towers.

    Attributes:
        name: as it was asked for, `NAME[:PRETRAINED]`.
        text: the text tower, with the tokenizer.
        image: the image tower.

    Raises:
        BackboneError: a tower run part by part does not give what open_clip gives.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any):
        super().__init__()
        self.name = name
        self.model: Any = model.float().eval().requires_grad_(False)
        self.text = TextTower(model, tokenizer)
        self.image = ImageTower(model)
        check_towers(self)

    @classmethod
    def load(cls, spec: str) -> Backbone:
        """Load `NAME[:PRETRAINED]`, see `vlmadapt.core.backbone.load.load`."""
        from vlmadapt.core.backbone.load import load

        return load(spec)

    @property
    def scale(self) -> Tensor:
        """CLIP's logit scale, exp of its stored logarithm."""
        return self.model.logit_scale.exp().reshape(())

    @property
    def preprocess_config(self) -> dict[str, Any]:
        """open_clip's own description of the transform: size, mean, std, interpolation, resize mode."""
        return self.model.visual.preprocess_cfg

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.scale.device

    def tower(self, side: Side) -> TextTower | ImageTower:
        """The tower of a side."""
        return self.text if side is TEXT else self.image

    def train(self, mode: bool = True) -> Backbone:
        """A backbone is never in training mode: it stays as it was pretrained."""
        return super().train(False)

    def compile_blocks(self) -> Backbone:
        """Have torch compile the blocks' linear maps, norms and MLPs when they are first used; needs a C++ compiler."""
        for tower in (self.text, self.image):
            tower.blocks = tuple(CompiledParts(block) for block in tower.blocks)
        return self

    def fingerprint(self) -> str:
        """SHA-256 of all weights, by which an adapter recognises the backbone it was made for."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

"""MMRL (Guo & Gu, CVPR 2025)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    FIRST,
    IMAGE,
    TEXT,
    UNSEEN,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Side,
    Task,
    clone_linear,
    cosine_distance,
    head,
    inject,
    random_tokens,
    zero_based,
)

REPRESENTATION = "representation"


@dataclass
class MMRLConfig:
    """Options of MMRL.

    Args:
        tokens: number K of representation tokens.
        width: width d_r of the representation space.
        layers: blocks before which tokens enter, counted from 1, consecutive or not; tokens for a block that only one
            tower has enter that one.
        alpha: weight of the class branch against the representation branch, in the loss and in fused scores.
        reg_weight: weight lambda of the pull towards the frozen features.
        regulariser: distance to the frozen features (the paper's ablation has all three).
        fusion: fuse logits as the published code does, or probabilities as the paper writes.
        routing: fused scores for seen classes and class-token scores for unseen ones, or one of them everywhere.
        unknown: what answers where the role of the classes is not known.
        text_tokens: tokens enter the text tower.
        image_tokens: tokens enter the image tower; without them there is no representation branch.
        space: one space for both towers; one of its own for each; or tokens of the text tower that are mapped on to the
            image tower.
    """

    tokens: int = 5
    width: int = 512
    layers: list[int] = field(default_factory=lambda: [6, 7, 8, 9, 10, 11, 12])
    alpha: float = 0.7
    reg_weight: float = 0.5
    regulariser: Literal["cosine", "l1", "mse"] = "cosine"
    fusion: Literal["logits", "probabilities"] = "logits"
    routing: Literal["split", "class", "fused"] = "split"
    unknown: Literal["class", "fused"] = "class"
    text_tokens: bool = True
    image_tokens: bool = True
    space: Literal["shared", "separate", "text-to-image"] = "shared"


class Aligners(nn.Module):
    """One linear map for each layer; all start alike."""

    def __init__(self, source: int, width: int, layers: int):
        super().__init__()
        self.maps = clone_linear(nn.Linear(source, width), layers)

    def forward(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (K, source) of each layer -> tokens (K, width) of each layer."""
        return [align(x) for align, x in zip(self.maps, sources, strict=True)]


class MMRL(Method):
    """Tokens from one shared representation space enter the upper layers of both towers.

    Space R (K, d_r); before block i of the listed layers the tokens F_i^t(R) and F_i^v(R) stand behind the start token
    and behind CLS, replacing those of the layer before. The class feature is CLIP's own; the representation feature is
    the mean of the final-norm outputs of the image's K tokens through a second, trainable projection. With z_c, z_r the
    logits of both against the same text features:

        loss = alpha CE(z_c, y) + (1 - alpha) CE(z_r, y) + lambda (d(f_c, f_0) + d(w, w_0))

    with d the distance to the frozen features of the same image and of the hand-written prompt. Seen classes are
    answered by alpha z_c + (1 - alpha) z_r, unseen ones by z_c. Official code (yunncheng/MMRL) fuses logits where the
    paper fuses probabilities, and takes 100 for CLIP's scale, which is the same for OpenAI's weights.
    """

    Config = MMRLConfig
    api_version = 2
    recipe = Recipe(optimizer="adamw", lr=1e-3, epochs=10, batch_size=4, crop_scale=(0.5, 1.0))
    paper = "Guo & Gu, MMRL: Multi-Modal Representation Learning for Vision-Language Models, CVPR 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the space, the aligners of both towers and the second projection."""
        c = self.config
        if not (c.text_tokens or c.image_tokens):
            raise DataError("MMRL without text tokens and without image tokens has nothing to learn.")
        self.layers = zero_based(c.layers)
        self.depths = {TEXT: backbone.text.depth, IMAGE: backbone.image.depth}
        self.space = random_tokens(c.tokens, c.width)
        if c.space == "separate" and c.text_tokens and c.image_tokens:
            self.image_space = random_tokens(c.tokens, c.width)
        mapped = c.space == "text-to-image"
        if c.text_tokens or mapped:
            self.to_text = self.aligners(c.width, backbone.text.width)
        if c.image_tokens:
            self.to_image = self.aligners(backbone.text.width if mapped else c.width, backbone.image.width)
            self.build_projection(backbone)

    def aligners(self, source: int, width: int) -> nn.Module:
        """Maps from lists of tokens (K, source) to lists of tokens (K, width), one map for each layer."""
        return Aligners(source, width, len(self.layers))

    def build_projection(self, backbone: Backbone) -> None:
        """The projection of the representation feature, N(0, 1 / width)."""
        width, joint = backbone.image.projection.shape
        self.projection = nn.Parameter(torch.randn(width, joint) * width**-0.5)

    def representation_projection(self) -> Tensor:
        """(width, joint)."""
        return self.projection

    def blend(self) -> float:
        """How much of a fresh token replaces what the layer before left."""
        return 1.0

    def tokens(self) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens (K, tower width) of each layer, for text and for image."""
        c, depth = self.config, len(self.layers)
        text = self.to_text([self.space] * depth) if hasattr(self, "to_text") else []
        if not c.image_tokens:
            return text, []
        space = self.image_space if hasattr(self, "image_space") else self.space
        return text, self.to_image(text if c.space == "text-to-image" else [space] * depth)

    def hooks(self) -> Iterable[Hook]:
        """The tokens in both towers, and the head that reads them."""
        text, image = self.tokens()
        if self.config.text_tokens:
            yield inject(TEXT, self.entering(TEXT, text), at=FIRST, blend=self.blend())
        if image:
            yield inject(IMAGE, self.entering(IMAGE, image), at=FIRST, blend=self.blend(), name=REPRESENTATION)
            yield head(IMAGE, REPRESENTATION, read=REPRESENTATION, mean=True, project=self.representation_projection())

    def entering(self, side: Side, tokens: Iterable[Tensor]) -> dict[int, Tensor]:
        """Tokens by layer, without the layers that the other tower alone has; those that none has the core refuses."""
        other_alone = range(self.depths[side], max(self.depths.values()))
        return {layer: x for layer, x in zip(self.layers, tokens, strict=True) if layer not in other_alone}

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Both branches, and both pulls towards the frozen features."""
        c = self.config
        alpha = c.alpha if c.image_tokens else 1.0
        yield LossTerm("ce", alpha, F.cross_entropy(fwd.logits(), fwd.labels))
        if c.image_tokens:
            yield LossTerm("representation", 1 - alpha, F.cross_entropy(fwd.logits(REPRESENTATION), fwd.labels))
            yield LossTerm("image", c.reg_weight, self.distance(fwd.image(), fwd.zero_shot.image))
        if c.text_tokens:
            yield LossTerm("text", c.reg_weight, self.distance(fwd.text(), fwd.zero_shot.text))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of unit features to frozen ones."""
        if self.config.regulariser == "cosine":
            return cosine_distance(a, b)
        return F.l1_loss(a, b) if self.config.regulariser == "l1" else F.mse_loss(a, b)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Fused scores for seen classes, class-token scores for unseen ones."""
        c = self.config
        split = {Role.SEEN: "fused", UNSEEN: "class", Role.UNKNOWN: c.unknown}[role]
        if not c.image_tokens or (c.routing == "class" or (c.routing == "split" and split == "class")):
            return fwd.logits()
        both = fwd.logits(), fwd.logits(REPRESENTATION)
        if c.fusion == "probabilities":
            # Logarithms of the fused probabilities: the same ranking, and a softmax gives the probabilities back.
            return (c.alpha * both[0].softmax(-1) + (1 - c.alpha) * both[1].softmax(-1)).log()
        return c.alpha * both[0] + (1 - c.alpha) * both[1]

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
    map_each,
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
            tower has enter only that tower.
        alpha: weight of the class feature, 1 - alpha is that of the representation feature, in loss and fused scores.
        reg_weight: weight lambda of the distance to the frozen features.
        regulariser: distance to the frozen features (the paper's ablation has all three).
        fusion: fuse logits, as in the published code, or probabilities, as in the paper.
        routing: split uses fused scores for seen and class-feature scores for unseen classes; class and fused use one
            of them for all classes.
        unknown: scores used if it is unknown whether classes are seen.
        text_tokens: inject tokens into the text tower.
        image_tokens: inject tokens into the image tower; without them there is no representation feature.
        space: representation space shared by both towers, a separate one per tower, or tokens of the text tower mapped
            to the image tower.
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


def stacked(modules: Iterable[nn.Module], name: str) -> Tensor:
    """The parameters of that name of all modules, (L, ...)."""
    return torch.stack([module.get_parameter(name) for module in modules])


class Aligners(nn.Module):
    """One linear map per layer, all with the same initialisation."""

    def __init__(self, source: int, width: int, layers: int):
        super().__init__()
        self.maps = clone_linear(nn.Linear(source, width), layers)

    def forward(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (K, source) of each layer -> tokens (K, width) of each layer."""
        return map_each(sources, stacked(self.maps, "weight"), stacked(self.maps, "bias"))


class MMRL(Method):
    """Tokens mapped from a shared representation space enter the upper layers of both towers.

    The space R has shape (K, d_r). Before block i of the listed layers the tokens F_i^t(R) and F_i^v(R) are inserted
    after the start token and after CLS, where they replace those of the previous layer. The class feature is CLIP's
    own; the representation feature is the mean of the final-norm outputs at the image's K tokens, mapped by a second,
    trainable projection. With z_c, z_r the logits of both against the same text features:

        loss = alpha CE(z_c, y) + (1 - alpha) CE(z_r, y) + lambda (d(f_c, f_0) + d(w, w_0))

    with d the distance to the frozen features of the same image and of the hand-written prompt. Scores are
    alpha z_c + (1 - alpha) z_r for seen classes and z_c for unseen ones. Official code (yunncheng/MMRL) fuses logits
    where the paper fuses probabilities, and uses 100 for CLIP's scale, which is the same for OpenAI's weights.
    """

    Config = MMRLConfig
    api_version = 2
    recipe = Recipe(optimizer="adamw", lr=1e-3, epochs=10, batch_size=4, crop_scale=(0.5, 1.0))
    paper = "Guo & Gu, MMRL: Multi-Modal Representation Learning for Vision-Language Models, CVPR 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the representation space, the aligners of both towers and the second projection."""
        c = self.config
        if not (c.text_tokens or c.image_tokens):
            raise DataError("MMRL with neither text_tokens nor image_tokens has nothing to learn.")
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
        """Maps from tokens (K, source) to tokens (K, width), one per layer."""
        return Aligners(source, width, len(self.layers))

    def build_projection(self, backbone: Backbone) -> None:
        """Create the projection of the representation feature, initialised from N(0, 1 / width)."""
        width, joint = backbone.image.width, backbone.image.joint
        self.projection = nn.Parameter(torch.randn(width, joint) * width**-0.5)

    def project_representation(self, tokens: Tensor) -> Tensor:
        """Mean (..., width) of the final-norm outputs -> representation feature (..., joint)."""
        return tokens @ self.projection

    def blend(self) -> float:
        """Weight of the new tokens against the previous block's output at their positions."""
        return 1.0

    def tokens(self) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens (K, tower width) for each layer, for text and for image."""
        c, depth = self.config, len(self.layers)
        text = self.to_text([self.space] * depth) if hasattr(self, "to_text") else []
        if not c.image_tokens:
            return text, []
        space = self.image_space if hasattr(self, "image_space") else self.space
        return text, self.to_image(text if c.space == "text-to-image" else [space] * depth)

    def hooks(self) -> Iterable[Hook]:
        """The tokens in both towers, and the head that reads those of the image tower."""
        text, image = self.tokens()
        if self.config.text_tokens:
            yield inject(TEXT, self.by_layer(TEXT, text), at=FIRST, blend=self.blend())
        if image:
            yield inject(IMAGE, self.by_layer(IMAGE, image), at=FIRST, blend=self.blend(), name=REPRESENTATION)
            yield head(IMAGE, REPRESENTATION, read=REPRESENTATION, mean=True, project=self.project_representation)

    def by_layer(self, side: Side, tokens: Iterable[Tensor]) -> dict[int, Tensor]:
        """Tokens keyed by layer, without layers that only the other tower has; the core refuses those neither has."""
        only_in_other = range(self.depths[side], max(self.depths.values()))
        return {layer: x for layer, x in zip(self.layers, tokens, strict=True) if layer not in only_in_other}

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropies of both features, and distances to the frozen image and text features."""
        c = self.config
        alpha = c.alpha if c.image_tokens else 1.0
        yield LossTerm("ce", alpha, F.cross_entropy(fwd.logits(), fwd.labels))
        if c.image_tokens:
            yield LossTerm("representation", 1 - alpha, F.cross_entropy(fwd.logits(REPRESENTATION), fwd.labels))
            yield LossTerm("image", c.reg_weight, self.distance(fwd.image(), fwd.zero_shot.image))
        if c.text_tokens:
            yield LossTerm("text", c.reg_weight, self.distance(fwd.text(), fwd.zero_shot.text))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of unit features (N, joint) to frozen ones."""
        if self.config.regulariser == "cosine":
            return cosine_distance(a, b)
        return F.l1_loss(a, b) if self.config.regulariser == "l1" else F.mse_loss(a, b)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Fused scores for seen classes, class-feature scores for unseen ones."""
        c = self.config
        split = {Role.SEEN: "fused", UNSEEN: "class", Role.UNKNOWN: c.unknown}[role]
        if not c.image_tokens or (c.routing == "class" or (c.routing == "split" and split == "class")):
            return fwd.logits()
        both = fwd.logits(), fwd.logits(REPRESENTATION)
        if c.fusion == "probabilities":
            # Logarithms of the fused probabilities: same ranking, and a softmax gives the probabilities back.
            return (c.alpha * both[0].softmax(-1) + (1 - c.alpha) * both[1].softmax(-1)).log()
        return c.alpha * both[0] + (1 - c.alpha) * both[1]

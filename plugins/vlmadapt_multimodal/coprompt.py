"""CoPrompt (Roy & Etemad, ICLR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    IMAGE,
    TEXT,
    Backbone,
    Descriptions,
    ForwardPass,
    LossTerm,
    Recipe,
    Role,
    Task,
    cosine_distance,
    similarity,
)
from vlmadapt_multimodal.maple import MaPLe, MaPLeConfig


@dataclass
class CoPromptConfig(MaPLeConfig):
    """Options of CoPrompt, in addition to those of MaPLe.

    Args:
        weight: weight of the distances to the frozen features; 8 by default of the published code, 1 in its settings.
        distance: cosine distance, or mean squared error.
        image_share: share of the adapter's output in the image feature.
        text_share: share of the adapter's output in the text feature.
        reduction: how many times narrower than the features the adapters are.
    """

    weight: float = 1.0
    distance: Literal["cosine", "mse"] = "cosine"
    image_share: float = 0.1
    text_share: float = 0.2
    reduction: int = 4


class CoPrompt(MaPLe):
    """Consistency-guided prompts: MaPLe with adapters on the features, held close to frozen CLIP on other inputs.

    With F and W the features of MaPLe for the first augmented view of an image and for a class name, n() the unit norm,
    and an adapter A(x) = relu(V relu(U x)) for each tower, mixed with shares m (0.1 for images, 0.2 for texts),

        f = n(m A(F) + (1 - m) F),   w likewise,   z = s f . w
        loss = CE(z) + weight (2 - mean cos(f, f_0) - mean cos(w, w_0))

    where f_0 is frozen CLIP's unit feature of the second view, and w_0 that of one description of each class; its
    number is drawn at each step, the same for all classes.

    Official code (ShuvenduRoy/CoPrompt) draws it on the host and needs equally many descriptions for every class; here
    it is drawn on the device, and a class with fewer starts again from its first. The relu at the adapters' end keeps
    their output from being negative. Both views are the whole image, resized whatever its shape, after RandAugment, as
    there; `--train.augmentation crop` makes them crops and flips.
    """

    Config = CoPromptConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(optimizer="sgd", lr=3.5e-3, epochs=8, batch_size=4, augmentation="randaugment")
    paper = "Roy & Etemad, Consistency-guided Prompt Learning for Vision-Language Models, ICLR 2024"
    views_per_step = 2

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create what MaPLe has, and an adapter for each tower."""
        super().build(backbone, task)
        self.text_adapter = adapter(backbone.text.joint, self.config.reduction)
        self.image_adapter = adapter(backbone.image.joint, self.config.reduction)

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and the distances to frozen features of a second view and of descriptions."""
        c, texts = self.config, fwd.descriptions
        described = fwd.sentences(texts, texts.number(self.draw(texts, fwd.device))).zero_shot.text
        distance = cosine_distance if c.distance == "cosine" else F.mse_loss
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, Role.SEEN), fwd.labels))
        yield LossTerm("text", c.weight, distance(self.text_features(fwd), described))
        yield LossTerm("image", c.weight, distance(self.image_features(fwd), fwd.view(1).zero_shot.image))

    def draw(self, texts: Descriptions, device: torch.device) -> Tensor:
        """Number () of this step's description of each class."""
        return texts.draw_number(device)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Logits of the adapted features, for seen and unseen classes alike."""
        return fwd.scale * similarity(self.image_features(fwd), self.text_features(fwd))

    def image_features(self, fwd: ForwardPass) -> Tensor:
        """Unit image features (B, joint) after the adapter."""
        share = self.config.image_share
        return fwd.once("image", lambda: mixed(fwd.features(IMAGE), self.image_adapter, share))

    def text_features(self, fwd: ForwardPass) -> Tensor:
        """Unit text features (classes, joint) after the adapter."""
        share = self.config.text_share
        return fwd.once("text", lambda: mixed(fwd.features(TEXT), self.text_adapter, share))


def adapter(joint: int, reduction: int) -> nn.Sequential:
    """Two linear maps without bias, with a relu after each."""
    narrow = max(joint // reduction, 1)
    return nn.Sequential(
        nn.Linear(joint, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, joint, bias=False), nn.ReLU()
    )


def mixed(features: Tensor, adapter: nn.Module, share: float) -> Tensor:
    """Unit mixture (..., joint) of features and their adapted form."""
    wide = features.to(next(adapter.parameters()).dtype)  # a tower may give half precision
    return F.normalize(share * adapter(wide) + (1 - share) * wide, dim=-1)

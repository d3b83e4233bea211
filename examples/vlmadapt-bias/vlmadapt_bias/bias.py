"""Bias tuning of both towers."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    IMAGE,
    MLP,
    SEEN,
    TEXT,
    Backbone,
    Forward,
    Hook,
    Method,
    Recipe,
    Role,
    Side,
    Task,
    Term,
    adapt,
    cosine_distance,
)


@dataclass
class BiasConfig:
    """Options of bias tuning.

    Args:
        layers: the last so many blocks of each tower are tuned.
        weight: weight of the pull towards the frozen features.
        trust: share of the tuned scores where classes were not trained on; the rest is frozen CLIP's.
    """

    layers: int = 6
    weight: float = 1.0
    trust: float = 0.5


class Bias(Method):
    """A trained vector is added to what the MLP of each upper block gives, in both towers."""

    Config = BiasConfig
    recipe = Recipe(optimizer="adamw", lr=1e-3, epochs=5, batch_size=16)
    paper = "after Ben Zaken et al., BitFit: Simple Parameter-efficient Fine-tuning, ACL 2022"
    api_version = 1

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create a vector (width,) for each tuned block, zero at the start."""
        self.text = self.vectors(backbone, TEXT)
        self.image = self.vectors(backbone, IMAGE)

    def vectors(self, backbone: Backbone, side: Side) -> nn.ParameterDict:
        """By block, counted from 0."""
        tower = backbone.tower(side)
        tuned = range(tower.depth)[-self.config.layers :]
        return nn.ParameterDict({str(layer): nn.Parameter(torch.zeros(tower.width)) for layer in tuned})

    def hooks(self) -> Iterable[Hook]:
        """A branch beside the MLP of each tuned block."""
        for side, vectors in ((TEXT, self.text), (IMAGE, self.image)):
            for layer, vector in vectors.items():
                yield adapt(side, int(layer), vector.expand_as, MLP)

    def losses(self, x: Forward) -> Iterable[Term]:
        """Cross entropy, and a pull towards the frozen features of the same images and classes."""
        yield "class", 1.0, F.cross_entropy(x.logits(), x.labels)
        yield "image", self.config.weight, cosine_distance(x.image(), x.zero_shot.image)
        yield "text", self.config.weight, cosine_distance(x.text(), x.zero_shot.text)

    def route(self, x: Forward, role: Role) -> Tensor:
        """Tuned scores where all classes were trained on, blended with frozen CLIP's elsewhere."""
        if role is SEEN:
            return x.logits()
        trust = self.config.trust
        return trust * x.logits() + (1 - trust) * x.zero_shot.logits

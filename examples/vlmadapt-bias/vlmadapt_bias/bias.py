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
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Side,
    Task,
    adapt,
    cosine_distance,
)


@dataclass
class BiasConfig:
    """Options of bias tuning.

    Args:
        layers: number of blocks to tune in each tower, counted from the last.
        weight: weight of the distance to the frozen features.
        trust: weight of the tuned scores for classes that were not trained on; the rest is that of zero-shot CLIP.
    """

    layers: int = 6
    weight: float = 1.0
    trust: float = 0.5


class Bias(Method):
    """A trained vector is added to the MLP output of each upper block, in both towers."""

    Config = BiasConfig
    config: BiasConfig
    recipe = Recipe(optimizer="adamw", lr=1e-3, epochs=5, batch_size=16)
    paper = "after Ben Zaken et al., BitFit: Simple Parameter-efficient Fine-tuning, ACL 2022"
    api_version = 2

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create a vector (width,) for each tuned block, initialised to zero."""
        self.text = self.vectors(backbone, TEXT)
        self.image = self.vectors(backbone, IMAGE)

    def vectors(self, backbone: Backbone, side: Side) -> nn.ParameterDict:
        """Vectors (width,) of a tower, keyed by block counted from 0."""
        tower = backbone.tower(side)
        tuned = range(tower.depth)[-self.config.layers :]
        return nn.ParameterDict({str(layer): nn.Parameter(torch.zeros(tower.width)) for layer in tuned})

    def hooks(self) -> Iterable[Hook]:
        """A branch on the MLP of each tuned block."""
        for side, vectors in ((TEXT, self.text), (IMAGE, self.image)):
            for layer, vector in vectors.items():
                yield adapt(side, int(layer), vector.expand_as, MLP)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and distances to the frozen features of the same images and classes."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        yield LossTerm("image", self.config.weight, cosine_distance(fwd.image(), fwd.zero_shot.image))
        yield LossTerm("text", self.config.weight, cosine_distance(fwd.text(), fwd.zero_shot.text))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Tuned scores for seen classes, a weighted mean of tuned and zero-shot scores otherwise."""
        if role is SEEN:
            return fwd.logits()
        trust = self.config.trust
        return trust * fwd.logits() + (1 - trust) * fwd.zero_shot.logits

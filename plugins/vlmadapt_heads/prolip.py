"""ProLIP (Fahes et al., 2025): CLIP's image projection, trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import (
    IMAGE,
    Backbone,
    BackboneError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Support,
    Task,
    TrainedCopy,
    collect,
    head,
    similarity,
)


@dataclass
class ProLIPConfig:
    """Options of ProLIP.

    Args:
        penalty: weight lambda of the distance to CLIP's projection, times a power of 1/N.
        shots_power: that power: lambda is `penalty` / N^`shots_power` with N support images per class.
    """

    penalty: float = 1.0
    shots_power: int = 1


class ProLIP(Method):
    """CLIP's image projection, fine-tuned with a pull to where it starts.

    With h the pooled token after the final norm, V the projection, which starts as CLIP's V_0, w_c the unit text
    features and s CLIP's scale:

        z_c = s n(h V) . w_c,    loss = CE(z, y) + lambda ||V - V_0||_F^2,    lambda = 1/N

    where N is the number of support images per class. The penalty is a sum over the matrix, although official code
    (astra-vision/ProLIP) calls it a mean squared error. That code takes 100 for s and trains 300 epochs of one step on
    the whole support set, each on another of 300 augmented views, computed beforehand; so does this, up to the number
    of the view it starts with. For ResNets it trains the output projection of the attention pool, which is not
    implemented.
    """

    Config = ProLIPConfig
    api_version = 2
    recipe = Recipe(
        optimizer="adam",
        lr=1e-5,
        eps=1e-4,
        epochs=300,
        batch_size=16384,
        weight_decay=0.0,
        schedule="cosine-step",
        warmup_epochs=0,
        views=300,
    )
    paper = "Fahes et al., CLIP's Visual Embedding Projector is a Few-shot Cornucopia, arXiv 2410.05270"
    touches = (IMAGE,)

    weight: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create a trained copy of CLIP's projection (width, joint), and lambda.

        Raises:
            BackboneError: the image tower has no projection matrix.
        """
        self.image = backbone.image
        try:
            self.projection = TrainedCopy(lambda: backbone.image.projection)
        except BackboneError as error:
            raise BackboneError(
                f"ProLIP trains a projection, but {error} clip-adapter and taskres need none."
            ) from error
        self.register_buffer("weight", torch.tensor(float(self.config.penalty)))

    def prepare(self, support: Support) -> None:
        """Set lambda by the number of support images per class."""
        batch = next(next(support.epochs(augmented=False)))
        shots = len(collect(next(support.epochs(augmented=False)))[1]) / len(batch.names)
        self.weight.fill_(self.config.penalty / shots**self.config.shots_power)

    def hooks(self) -> Iterable[Hook]:
        """A head with the trained projection."""
        yield head(IMAGE, "trained", project=self.project)

    def project(self, tokens: Tensor) -> Tensor:
        """Normed tokens (..., width) -> features (..., joint); what the frozen projection adds stays as it is."""
        return F.linear(tokens, self.projection().T, self.image.projection_bias)

    def logits(self, fwd: ForwardPass) -> Tensor:
        """scale * cosine of the image with the frozen text features, (B, classes)."""
        return fwd.scale * similarity(fwd.image("trained"), fwd.zero_shot.text)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy and the pull to CLIP's projection."""
        distance = self.projection.difference.square().sum()
        yield LossTerm("ce", 1.0, F.cross_entropy(self.logits(fwd), fwd.labels))
        yield LossTerm("penalty", 1.0, self.weight * distance)
        yield LossTerm("distance", 0.0, distance)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The logits, for seen and unseen classes alike."""
        return self.logits(fwd)

"""PLOT (Chen et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    IMAGE,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    Read,
    Recipe,
    Task,
    head,
    inject,
    per_variant,
    prompt,
    random_tokens,
    similarity,
)
from vlmadapt_prompts.context import PlacedName, Position, row_room
from vlmadapt_prompts.transport import TransportMethod

TOKENS = "tokens"


@dataclass
class PLOTConfig:
    """Options of PLOT.

    Args:
        prompts: number N of contexts, all of them for every class.
        tokens: length of each.
        position: where the class name stands: behind the context, in the middle of it, or in front.
        pooled: add CLIP's plain logits, from the pooled image feature and the mean text feature; the published code
            does so on ImageNet.
        eps: weight of the entropy in the transport.
        rounds: the most Sinkhorn rounds.
        tolerance: mean change at which the rounds end.
    """

    prompts: int = 4
    tokens: int = 16
    position: Position = "end"
    pooled: bool = False
    eps: float = 0.1
    rounds: int = 100
    tolerance: float = 0.01


class PLOT(TransportMethod):
    """Prompt Learning with Optimal Transport: several contexts share out an image's local features among them.

    N contexts give class i the unit features v_{i,k}, an image its unit local features x_m, m = 1..M. With
    S_mk = x_m . v_{i,k} and the transport plan T of the cost 1 - S between uniform weights (Sinkhorn, no gradient)

        z_i = s sum_{m,k} T_mk S_mk

    and the loss is the cross entropy of z. Official code (CHENGY12/PLOT, `plot-coop`) ends the Sinkhorn rounds for all
    images and classes of a batch together, so that a score depends slightly on the batch.

    Local features are here the output tokens of a vision transformer behind the final norm and CLIP's projection. The
    paper takes the positions of a ResNet's attention pooling instead, and the released code only works with that; such
    a tower can be asked for its pooled output alone, so it is refused.
    """

    Config = PLOTConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=128)
    paper = "Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023"
    touches = (TEXT, IMAGE)
    whole_batch = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the contexts."""
        c = self.config
        self.template = PlacedName(f"{row_room(c.tokens)} {{}}.", position=c.position)
        self.contexts = random_tokens(c.prompts, c.tokens, backbone.text.width)

    def hooks(self) -> Iterable[Hook]:
        """A row for each context, and all tokens of the image."""
        yield prompt(self.template)
        yield inject(TEXT, {EMBEDDING: per_variant(self.contexts)}, at=CONTEXT)
        yield head(IMAGE, TOKENS, read=Read.ALL)

    def similarities(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, classes, M, N) of local features with the contexts' text features."""
        text = fwd.text().reshape(len(self.contexts), len(fwd.names), -1)
        return torch.einsum("bmd,kcd->bcmk", fwd.image(TOKENS)[:, 1:], text)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Transported scores (B, classes), on request with CLIP's plain logits."""
        scores = self.transported(fwd)
        if not self.config.pooled:
            return scores
        mean = fwd.features(TEXT).reshape(len(self.contexts), len(fwd.names), -1).float().mean(0)
        return scores + fwd.scale * similarity(fwd.image(), F.normalize(mean, dim=-1))

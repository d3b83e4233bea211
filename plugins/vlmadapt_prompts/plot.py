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
from vlmadapt_prompts.context import PlacedName, Position, placeholder
from vlmadapt_prompts.transport import TransportMethod

TOKENS = "tokens"


@dataclass
class PLOTConfig:
    """Options of PLOT.

    Args:
        prompts: number N of contexts, each shared by all classes.
        tokens: length of each context.
        position: position of the class name: after the context (end), in the middle of it, or before it (front).
        pooled: add CLIP's ordinary logits, from the pooled image feature and the mean text feature; the published code
            does so on ImageNet.
        eps: weight of the entropy regularisation in the optimal transport.
        rounds: maximum number of Sinkhorn iterations.
        tolerance: mean change below which the iterations stop.
    """

    prompts: int = 4
    tokens: int = 16
    position: Position = "end"
    pooled: bool = False
    eps: float = 0.1
    rounds: int = 100
    tolerance: float = 0.01


class PLOT(TransportMethod):
    """Prompt Learning with Optimal Transport: several contexts are matched to an image's local features.

    Class i has the unit text features v_{i,k} of N contexts, an image the unit local features x_m, m = 1..M. With
    S_mk = x_m . v_{i,k} and the transport plan T for the cost 1 - S and uniform marginals (Sinkhorn, no gradient)

        z_i = s sum_{m,k} T_mk S_mk

    and the loss is the cross entropy of z. Official code (CHENGY12/PLOT, `plot-coop`) stops the Sinkhorn iterations for
    all images and classes of a batch together, so a score depends slightly on the rest of the batch.

    Local features here are the output tokens of a vision transformer after the final norm and CLIP's projection. The
    paper takes the positions of a ResNet's attention pooling instead, and the released code only works with that. A
    ResNet tower exposes only its pooled output here, so PLOT rejects it with an error.
    """

    Config = PLOTConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=128)
    paper = "Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023"
    touches = (TEXT, IMAGE)
    whole_batch = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the contexts (N, n, width)."""
        c = self.config
        self.template = PlacedName(f"{placeholder(c.tokens)} {{}}.", position=c.position)
        self.contexts = random_tokens(c.prompts, c.tokens, backbone.text.width)

    def hooks(self) -> Iterable[Hook]:
        """A prompt for each context, and a head that reads all image tokens."""
        yield prompt(self.template)
        yield inject(TEXT, {EMBEDDING: per_variant(self.contexts)}, at=CONTEXT)
        yield head(IMAGE, TOKENS, read=Read.ALL)

    def similarities(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, classes, M, N) of local features with the contexts' text features."""
        text = fwd.text().reshape(len(self.contexts), len(fwd.names), -1)
        return torch.einsum("bmd,kcd->bcmk", fwd.image(TOKENS)[:, 1:], text)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Transported cosines (B, classes) times CLIP's scale, with `pooled` plus CLIP's ordinary logits."""
        scores = self.transported(fwd)
        if not self.config.pooled:
            return scores
        mean = fwd.features(TEXT).reshape(len(self.contexts), len(fwd.names), -1).float().mean(0)
        return scores + fwd.scale * similarity(fwd.image(), F.normalize(mean, dim=-1))

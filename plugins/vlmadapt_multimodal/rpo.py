"""RPO (Lee et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    EMBEDDING,
    END,
    IMAGE,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Task,
    head,
    inject,
    prompt,
)

PAIRS = "pairs"


@dataclass
class RPOConfig:
    """Options of RPO.

    Args:
        tokens: number K of read-only tokens in each tower.
        template: prompt template for every data set.
        raw_names: keep the underscores of class names, as the published code does.
    """

    tokens: int = 24
    template: str = "a photo of a {}."
    raw_names: bool = True


class RPO(Method):
    """Read-only prompts: K tokens in each tower that attend to the sequence while no token attends to them.

    They do not attend to each other or to themselves either, so all other activations are those of frozen CLIP. The
    tokens follow the end-of-text token and the patches, without position; their outputs, after the final norms and
    projections, are compared in pairs:

        z_i = s / K sum_k cos(f_k, w_ik)

    They are initialised at the embeddings of end of text and of CLS plus 0.1 times a random direction. Official code
    (mlvlab/RPO) agrees with the paper.
    """

    Config = RPOConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=0.01, epochs=15, batch_size=4)
    paper = "Lee et al., Read-only Prompt Optimization for Vision-Language Few-shot Learning, ICCV 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the tokens (K, width) of both towers."""
        self.text_tokens = _around(backbone.text.end_token, self.config.tokens)
        self.image_tokens = _around(backbone.image.leading_token, self.config.tokens)

    def hooks(self) -> Iterable[Hook]:
        """Read-only tokens at the end of both sequences, and heads that read them."""
        c = self.config
        yield prompt(c.template, keep_underscores=c.raw_names)
        for side, tokens in ((TEXT, self.text_tokens), (IMAGE, self.image_tokens)):
            yield inject(side, {EMBEDDING: tokens}, at=END, read_only=True)
            yield head(side, PAIRS, read="injected")

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy."""
        yield LossTerm("ce", 1.0, F.cross_entropy(_logits(fwd), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The logits, for seen and unseen classes alike."""
        return _logits(fwd)


def _logits(fwd: ForwardPass) -> Tensor:
    """(B, classes) from image outputs (B, K, joint) and text outputs (classes, K, joint), paired by index."""
    image, text = fwd.image(PAIRS), fwd.text(PAIRS)
    return fwd.scale * torch.einsum("bkd,ckd->bc", image, text) / image.shape[1]


def _around(token: Tensor, n: int) -> nn.Parameter:
    """Trainable tokens (n, width) at distance 0.1 from a token (width,), in random directions."""
    directions = torch.randn_like(token.expand(n, -1))
    return nn.Parameter(token + 0.1 * F.normalize(directions, dim=-1))

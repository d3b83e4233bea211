"""ProVP-Ref (Xu et al., IJCV 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from vlmadapt.plugin import FIRST, IMAGE, OVER, Backbone, ForwardPass, Hook, LossTerm, Method, Recipe, Task, inject

PATCH = 14
"""In the start's bound; the official code has this number whatever the patch size is."""


@dataclass
class ProVPConfig:
    """Options of ProVP.

    Args:
        tokens: number of image tokens before each block.
        flow: share of a token that is what the block before left in its place; the rest is the fresh token.
        reg_weight: weight of the re-formation loss; 0 is plain ProVP.
        over_patches: insert no tokens, write those of the second block and on over the first patches, which the
            published code does with four tokens or fewer.
    """

    tokens: int = 16
    flow: float = 0.01
    reg_weight: float = 1.0
    over_patches: bool = False


class ProVP(Method):
    """Progressive visual prompts: image tokens before every block, connected from block to block.

    Tokens V_l stand behind CLS; with P_l what block l - 1 left in their place, the input of block l is

        flow * P_l + (1 - flow) * V_l

    and V_0 itself for the first, behind the first norm and without position. Text features are the frozen ones of the
    data set's template. Re-formation asks each adapted image feature to find its own frozen feature in the batch:

        loss = CE(z, y) + lambda CE(f f_0^T, (1 .. B))        unit features, no scale

    Official code (MCG-NJU/ProVP) fixes lambda at 1 whatever its configuration says. With four tokens or fewer it never
    inserts V_0 and takes the first patches for P_l; here that is asked for with `over_patches`.
    """

    Config = ProVPConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=0.1, epochs=100, batch_size=32, weight_decay=1e-3)
    paper = "Xu et al., Progressive Visual Prompt Learning with Contrastive Feature Re-formation, IJCV 2025"
    touches = (IMAGE,)
    whole_batch = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the tokens (depth, n, width), uniform in +-sqrt(6 / (3 * 14^2 + width))."""
        width = backbone.image.width
        bound = (6 / (3 * PATCH**2 + width)) ** 0.5
        self.tokens = nn.Parameter(torch.empty(backbone.image.depth, self.config.tokens, width).uniform_(-bound, bound))

    def hooks(self) -> Iterable[Hook]:
        """Tokens before every block, almost fresh at each."""
        c, tokens = self.config, dict(enumerate(self.tokens))
        if c.over_patches:
            del tokens[0]
        yield inject(IMAGE, tokens, at=OVER if c.over_patches else FIRST, blend=1 - c.flow)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy and re-formation."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        found = fwd.image() @ fwd.zero_shot.image.T
        diagonal = torch.arange(len(found), device=fwd.device)
        yield LossTerm("reformation", self.config.reg_weight, F.cross_entropy(found, diagonal))

"""ProVP-Ref (Xu et al., IJCV 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from vlmadapt.plugin import FIRST, IMAGE, OVER, Backbone, ForwardPass, Hook, LossTerm, Method, Recipe, Task, inject

PATCH = 14
"""Patch size in the bound of the initialisation; the official code uses 14 whatever the real patch size is."""


@dataclass
class ProVPConfig:
    """Options of ProVP.

    Args:
        tokens: number of image tokens before each block.
        flow: weight of the previous block's output at the tokens' positions; 1 - flow is that of the new tokens.
        reg_weight: weight lambda of the re-formation loss; 0 is plain ProVP.
        over_patches: insert no tokens; instead blend those of the second block and later over the first patches, as
            the published code does with four tokens or fewer.
    """

    tokens: int = 16
    flow: float = 0.01
    reg_weight: float = 1.0
    over_patches: bool = False


class ProVP(Method):
    """Progressive visual prompts: image tokens before every block, blended with the previous block's output.

    Tokens V_l follow CLS; with P_l the output of block l - 1 at their positions, the input of block l is

        flow * P_l + (1 - flow) * V_l

    and for block 0 it is V_0, which enters after the first norm and has no position. Text features are the frozen ones
    of the data set's template. The re-formation loss classifies each adapted image feature as its own frozen feature
    among those of the batch:

        loss = CE(z, y) + lambda CE(f f_0^T, (1 .. B))        unit features, no scale

    Official code (MCG-NJU/ProVP) fixes lambda at 1 whatever its configuration says. With four tokens or fewer it never
    inserts V_0 and uses the first patches for P_l; here the option `over_patches` selects that.
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
        """Tokens before every block, blended with the previous block's output."""
        c, tokens = self.config, dict(enumerate(self.tokens))
        if c.over_patches:
            del tokens[0]
        yield inject(IMAGE, tokens, at=OVER if c.over_patches else FIRST, blend=1 - c.flow)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy and the re-formation loss."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        cosines = fwd.image() @ fwd.zero_shot.image.T
        diagonal = torch.arange(len(cosines), device=fwd.device)
        yield LossTerm("reformation", self.config.reg_weight, F.cross_entropy(cosines, diagonal))

"""ZERO (Farina et al., NeurIPS 2024): a vote of confident views of the test image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Backbone, DataError, ForwardPass, Method, Recipe, Role, Task


@dataclass
class ZeroConfig:
    """Options of ZERO.

    Args:
        views: views of each test image: itself and random crops.
        confident: share of the views that votes, those of the lowest entropy.
        published: decide a tie that no further view decides as the published code does; otherwise among the tied
            classes.
    """

    views: int = 64
    confident: float = 0.3
    published: bool = True


class Zero(Method):
    """A vote of the most confident views of a test image, which is the mean prediction at temperature 0.

    With z_v the logits of view v, the k = floor(share * views) views of the lowest entropy vote for their best class:

        score_c = |{v confident : argmax z_v = c}|

    A tie is decided by the next views in order of entropy: the first whose best class is among the tied ones. If none
    is, the most confident of these views decides by its logits of the tied classes. In that last case official code
    (FarinaMatteo/zero) inverts the bits of class indices: for each tied class c of C it excludes class C - 1 - c, and
    any other may win, as here with `published`.

    Every image is answered on its own. Views are the image and crops of 8 to 100 % of its area, half of them flipped,
    as in official code, which does not use AugMix.
    """

    Config = ZeroConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Farina et al., Frustratingly Easy Test-Time Adaptation of Vision-Language Models, NeurIPS 2024"
    touches = ()
    track = "test-time"
    limitations: ClassVar[dict[str, str]] = {"added-class": "the entropy over all classes decides which views vote"}

    def build(self, backbone: Backbone, task: Task) -> None:
        """There is nothing to train.

        Raises:
            DataError: no view would be left to vote.
        """
        self.voters = int(self.config.views * self.config.confident)
        if not 1 <= self.voters <= self.config.views:
            raise DataError(
                f"{self.voters} of {self.config.views} views would vote; views * confident is from 1 to the views."
            )

    @property
    def test_views(self) -> int:
        """As the options say."""
        return self.config.views

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Votes (B, classes), with one more for the class that wins a tie."""
        logits = fwd.zero_shot.logits.float().unflatten(0, (-1, self.config.views))
        entropy = -(logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)
        order = entropy.argsort(dim=1, stable=True)
        logits = logits.take_along_dim(order[..., None], dim=1)
        best = F.one_hot(logits.argmax(dim=-1), logits.shape[-1])
        votes = best[:, : self.voters].sum(dim=1)
        tied = votes == votes.amax(dim=1, keepdim=True)
        winner = F.one_hot(self.winner(tied, logits[:, self.voters :]), votes.shape[1])
        return votes + winner * (tied.sum(dim=1, keepdim=True) > 1)

    def winner(self, tied: Tensor, rest: Tensor) -> Tensor:
        """The class (B,) that wins among those tied (B, classes), by the logits (B, n, classes) of further views."""
        if not rest.shape[1]:
            return tied.int().argmax(dim=1)
        deciding = tied.take_along_dim(rest.argmax(dim=-1), dim=1)
        first = deciding.int().argmax(dim=1)  # the most confident view if none is deciding
        logits = rest[torch.arange(len(rest), device=rest.device), first]
        excluded = ~tied
        if self.config.published:
            excluded = excluded.where(deciding.any(dim=1, keepdim=True), tied.flip(-1))
        return logits.masked_fill(excluded, -torch.inf).argmax(dim=-1)

"""Optimal transport between the features of an image and those of a class, shared by PLOT and PLOT++."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import ForwardPass, LossTerm, Method, Role, sinkhorn


class TransportMethod(Method, ABC):
    """Base of methods whose scores are cosines weighted by transport plans.

    The options of a subclass have the fields `eps`, `rounds` and `tolerance`.
    """

    @abstractmethod
    def similarities(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, classes, M, N) of an image's M features with a class's N."""

    @abstractmethod
    def scores(self, fwd: ForwardPass) -> Tensor:
        """Scores (B, classes)."""

    def plans(self, cosines: Tensor) -> Tensor:
        """Transport plans (B, classes, M, N)."""
        c = self.config
        return sinkhorn(cosines, c.eps, c.rounds, c.tolerance)

    def transported(self, fwd: ForwardPass) -> Tensor:
        """Transported cosines (B, classes) times CLIP's scale."""
        cosines = self.similarities(fwd)
        return fwd.scale * (self.plans(cosines) * cosines).sum((-2, -1))

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy of the scores."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, Role.SEEN), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The scores, for seen and unseen classes alike; computed once per forward pass, as Sinkhorn is slow."""
        return fwd.once("transported", lambda: self.scores(fwd))

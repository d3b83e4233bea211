"""CLAP (Silva-Rodríguez et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Backbone, ForwardPass, LossTerm, Support, Task, assign
from vlmadapt_heads.prototypes import first_batch
from vlmadapt_heads.samples import Samples, every_view
from vlmadapt_heads.zs_lp import ZSLP


@dataclass
class CLAPConfig:
    """Options of CLAP.

    Args:
        passes: augmented views of each support image that the multipliers are computed from.
        distance: between a prototype and its start: 'l2' squared, or 'cosine' (1 - cosine).
        multipliers: 'class' is the mean zero-shot probability of the true class; 'corrected' scales these to mean 1,
            'constant' gives each class their mean, 'balanced' is 1 for each class.
        adaptive: update the multipliers after each epoch, the outer step of the augmented Lagrangian; the published
            setting never does.
    """

    passes: int = 20
    distance: Literal["l2", "cosine"] = "l2"
    multipliers: Literal["class", "corrected", "constant", "balanced"] = "class"
    adaptive: bool = False


class CLAP(ZSLP):
    """ZS-LP with a penalty on each prototype's distance to its text feature, weighted by class.

    With p_c the prototypes, t_c their start, the mean over templates of unnormalised text features, and C classes:

        loss = CE(z, y) + 1/C sum_c lambda_c ||p_c - t_c||^2
        lambda_c = mean over the support images of class c of P_0(c | x)

    with the zero-shot probabilities P_0. In the paper lambda are the multipliers of an augmented Lagrangian. The
    published setting (jusiro/CLAP, `CONSTRAINT l2`) computes them once and never updates them. With `adaptive` an outer
    step follows each epoch, lambda <- max(lambda + rho h, 0), then rho <- h, where h_c is the squared distance and rho
    starts at 0. A class without support images has lambda 0. Batches as in ZS-LP.
    """

    Config = CLAPConfig

    start: Tensor
    multipliers: Tensor
    penalty: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create prototypes, their start (classes, joint), and the multipliers and rho (classes,)."""
        super().build(backbone, task)
        self.register_buffer("start", torch.zeros_like(self.prototypes))
        self.register_buffer("multipliers", torch.zeros(len(task.classes)))
        self.register_buffer("penalty", torch.zeros(len(task.classes)))

    def prepare(self, support: Support) -> None:
        """Set the prototypes to the text features, and the multipliers by the zero-shot probabilities."""
        super().prepare(support)
        assign(self.start, self.prototypes)
        samples = every_view(support, self.config.passes)
        assign(self.multipliers, self._multipliers(samples, first_batch(support).scale))
        assign(self.penalty, torch.zeros_like(self.multipliers))

    def _multipliers(self, samples: Samples, scale: Tensor) -> Tensor:
        classes, kind = self.fitted(), self.config.multipliers
        probabilities = F.softmax(self.logits(samples.features, self.start, scale), dim=-1)
        true = (samples.of_class(classes) * probabilities).sum(dim=0) / samples.counts(classes).clamp(min=1)
        if kind == "balanced":
            return torch.ones_like(true)
        if kind == "constant":
            return true.mean().expand_as(true)
        return true / true.mean() if kind == "corrected" else true

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy and the penalty."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.scores(fwd), fwd.labels))
        yield LossTerm("penalty", 1.0, (self.multipliers * self._distances()).mean())

    def _distances(self) -> Tensor:
        if self.config.distance == "cosine":
            return 1 - F.cosine_similarity(self.prototypes, self.start, dim=-1)
        return self._squared_distances()

    def _squared_distances(self) -> Tensor:
        return (self.prototypes - self.start).square().sum(dim=-1)

    @torch.no_grad()
    def epoch_end(self, epoch: int, epochs: int) -> None:
        """The outer step, if it is asked for."""
        if self.config.adaptive:
            distances = self._squared_distances()
            self.multipliers.add_(self.penalty * distances).clamp_(min=0)
            self.penalty.copy_(distances)

"""LP++ (Huang et al., CVPR 2024): a linear probe blended with text features by learned class-wise weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    Backbone,
    ForwardPass,
    LossTerm,
    Recipe,
    Support,
    SupportMethod,
    Task,
    Trainer,
    assign,
    total,
)
from vlmadapt_heads.prototypes import first_batch
from vlmadapt_heads.samples import Samples, every_view, held_out


@dataclass
class LPPlusPlusConfig:
    """Options of LP++.

    Args:
        alpha_every: epochs between two steps of the blending weights.
        select: keep the epoch with the best validation accuracy; without validation images the last one is kept.
        published: step the blending weights along the sum of all gradients since the start, as official code does;
            otherwise along the present gradient.
    """

    alpha_every: int = 10
    select: bool = True
    published: bool = False


class LPPlusPlus(SupportMethod):
    """A linear probe on unit features, plus text logits with a learned weight per class.

    With x the unit image feature and t_c the unit text features:

        z_c = x . w_c + b_c + alpha_c x . t_c

    w_c starts as the sum of the class's support features, b at random, and every alpha_c as 250 times the mean cosine
    of support images with their class's text. Gradient descent on the cross entropy of the whole support set, with
    momentum 0.9 for w and b and step sizes that follow from Lipschitz constants, with F (N, joint) the support
    features:

        lr_w = 4 N / (largest eigenvalue of F^T F),    lr_alpha = N / (4 max_c sum_i (x_i . t_c)^2)

    `train.lr` multiplies lr_w. The paper writes no bias and alternates blocks of steps; official code
    (FereshteShakeri/FewShot-CLIP-Strong-Baseline) steps w and b in every epoch and alpha in every tenth, as is done
    here. It never zeroes the gradient of alpha, which steps along the sum over all epochs (`published`). Among the
    epochs with the best validation accuracy the last is kept. Classes may differ in their number of images.
    """

    Config = LPPlusPlusConfig
    api_version = 2
    recipe = Recipe(
        lr=1.0,
        epochs=300,
        batch_size=16384,
        weight_decay=0.0,
        schedule="constant",
        warmup_epochs=0,
        crop_scale=(0.5, 1.0),
        views=1,
    )
    paper = "Huang et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP, CVPR 2024"
    limitations: ClassVar[dict[str, str]] = {
        **SupportMethod.limitations,
        "gradients": "the blending weights step by themselves every few epochs, apart from the optimiser",
    }

    lr_weight: Tensor
    lr_alpha: Tensor
    alpha_gradient: Tensor
    held_features: Tensor
    held_cosines: Tensor
    held_labels: Tensor
    best_accuracy: Tensor
    best_weight: Tensor
    best_bias: Tensor
    best_alpha: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create w (classes, joint), b (classes,) and alpha (1, classes)."""
        classes, width = len(task.classes), backbone.image.joint
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.empty(classes).uniform_(-bound, bound))
        self.alpha = nn.Parameter(torch.zeros(1, classes))
        for name in ("lr_weight", "lr_alpha"):
            self.register_buffer(name, torch.tensor(1.0))
        self.register_buffer("alpha_gradient", torch.zeros(1, classes))
        self._build_selection(classes, width)

    def _build_selection(self, classes: int, width: int) -> None:
        """Create what is needed to find the best epoch; `finish` empties it."""
        self.register_buffer("held_features", torch.zeros(0, width))
        self.register_buffer("held_cosines", torch.zeros(0, classes))
        self.register_buffer("held_labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("best_accuracy", torch.tensor(0.0))
        for name, parameter in self.named_parameters():
            self.register_buffer(f"best_{name}", torch.zeros(0, *parameter.shape[1:]))

    def fitted(self) -> int:
        """Number of classes."""
        return len(self.bias)

    def prepare(self, support: Support) -> None:
        """Set starts and step sizes by the support set, and keep the validation features."""
        samples, text = every_view(support, 1), first_batch(support).zero_shot.text.float()
        cosines = samples.features @ text.T
        assign(self.weight, samples.sums(self.fitted()))
        assign(self.alpha, 250 * _mean_of_true(samples, cosines).expand(1, self.fitted()))
        assign(self.lr_weight, 4 * len(cosines) / torch.linalg.matrix_norm(samples.features, 2).square())
        assign(self.lr_alpha, len(cosines) / (4 * cosines.square().sum(dim=0).max()))
        held = held_out(support)
        if self.config.select and len(held.labels):
            assign(self.held_features, held.features)
            assign(self.held_cosines, held.features @ text.T)
            assign(self.held_labels, held.labels)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Linear probe plus weighted text cosines, (B, classes)."""
        image = fwd.zero_shot.image
        return self._logits(image, image @ fwd.zero_shot.text.T)

    def _logits(self, features: Tensor, cosines: Tensor) -> Tensor:
        return F.linear(features.float(), self.weight, self.bias) + self.alpha * cosines.float()

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Forget the gradient of alpha, which the published code adds up instead."""
        if not self.config.published:
            self.alpha_gradient.zero_()

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """Step w and b, and add up the gradient of alpha."""
        terms = list(self.losses(fwd))
        weight, bias, alpha = trainer.gradients(total(terms))
        assert weight is not None and bias is not None and alpha is not None
        self.alpha_gradient.add_(alpha)
        trainer.apply([self.lr_weight * weight, self.lr_weight * bias, None])
        return terms

    @torch.no_grad()
    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Step alpha every few epochs, and keep the parameters if no epoch was better on the validation images."""
        if (epoch + 1) % self.config.alpha_every == 0:
            self.alpha.sub_(self.lr_alpha * self.alpha_gradient)
        if len(self.held_labels):
            found = self._logits(self.held_features, self.held_cosines).argmax(dim=-1)
            accuracy = (found == self.held_labels).float().mean()
            if accuracy >= self.best_accuracy:
                self.best_accuracy.copy_(accuracy)
                for name, parameter in self.named_parameters():
                    assign(getattr(self, f"best_{name}"), parameter)

    def finish(self, support: Support) -> None:
        """Take the parameters of the best epoch, and drop what served to find it."""
        for name, parameter in self.named_parameters():
            best = getattr(self, f"best_{name}")
            if len(best):
                parameter.copy_(best)
            assign(best, best[:0])
        for held in (self.held_features, self.held_cosines, self.held_labels):
            assign(held, held[:0])


def _mean_of_true(samples: Samples, cosines: Tensor) -> Tensor:
    """Mean over classes of the mean cosine of a class's images with its own text."""
    classes = cosines.shape[1]
    true = (samples.of_class(classes) * cosines).sum(dim=0) / samples.counts(classes).clamp(min=1)
    return true.mean()

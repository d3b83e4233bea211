"""GDA (Wang et al., ICLR 2024): Gaussian discriminant analysis for the classes of the support set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlmadapt.plugin import Backbone, ForwardPass, Recipe, Support, SupportMethod, Task, assign
from vlmadapt_heads.samples import Samples, every_view


@dataclass
class GDAConfig:
    """Options of GDA.

    Args:
        passes: augmented views of each support image; each is a sample of its own.
        alpha: weight of the Gaussian classifier, before or without a search.
        search: choose alpha by validation accuracy; without validation images it keeps the value above.
        alphas: values of the search.
    """

    passes: int = 10
    alpha: float = 1.0
    search: bool = True
    alphas: list[float] = field(default_factory=lambda: [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])


class GDA(SupportMethod):
    """A Gaussian discriminant classifier in closed form, added to zero-shot CLIP; it trains nothing.

    With x_i the unit features of n samples, each view of each support image one of them, mu_c the class means, S the
    covariance of all x_i - mu_{y_i} with divisor n - 1, d the joint width, I the identity, x the unit image feature,
    w_c the unit text features and s CLIP's scale:

        P = d ((n - 1) S + tr(S) I)^-1,    W_c = P mu_c,    b_c = -log C - mu_c P mu_c / 2
        z_c = s x . w_c + alpha (x . W_c + b_c)

    Alpha is the value with the best validation accuracy, the smallest on a tie. Official code (mrflogs/ICLR24,
    `main_few_shots.py`) takes 100 for s; on ImageNet it chooses alpha on the test images, here the search never sees
    one.
    """

    Config = GDAConfig
    api_version = 2
    recipe = Recipe(epochs=0, crop_scale=(0.5, 1.0))
    paper = "Wang et al., A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation, ICLR 2024"

    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create W (classes, joint), b (classes,) and alpha, which `prepare` and `finish` set."""
        self.register_buffer("weight", torch.zeros(len(task.classes), backbone.image.joint))
        self.register_buffer("bias", torch.zeros(len(task.classes)))
        self.register_buffer("alpha", torch.tensor(float(self.config.alpha)))

    def fitted(self) -> int:
        """Number of classes W was solved for."""
        return len(self.bias)

    def prepare(self, support: Support) -> None:
        """Estimate the Gaussians."""
        samples = every_view(support, self.config.passes)
        means = samples.means(self.fitted())
        weight, bias = discriminant(means, self.precision(samples, means))
        assign(self.weight, weight)
        assign(self.bias, bias)

    def precision(self, samples: Samples, means: Tensor) -> Tensor:
        """Inverse (joint, joint) of the covariance within classes."""
        return shrunk_precision(samples, means)

    def finish(self, support: Support) -> None:
        """Choose alpha on the validation images."""
        if not self.config.search:
            return
        correct = [0] * len(self.config.alphas)
        images = 0
        for fwd in support.validation():
            images += len(fwd.labels)
            zero_shot, gaussian = fwd.zero_shot.logits, self.gaussian(fwd)
            for i, alpha in enumerate(self.config.alphas):
                correct[i] += int(((zero_shot + alpha * gaussian).argmax(dim=-1) == fwd.labels).sum())
        if images:
            # The published search starts from 0.1, where it stays if no alpha classifies any image correctly.
            self.alpha.fill_(self.config.alphas[correct.index(max(correct))] if any(correct) else 0.1)

    def gaussian(self, fwd: ForwardPass) -> Tensor:
        """x W^T + b, (B, classes), for the fitted classes."""
        return fwd.zero_shot.image @ self.weight.T + self.bias

    def scores(self, fwd: ForwardPass) -> Tensor:
        """CLIP's logits plus alpha times the Gaussian ones, (B, classes)."""
        return fwd.zero_shot.logits + self.alpha * self.gaussian(fwd)


def shrunk_precision(samples: Samples, means: Tensor) -> Tensor:
    """Shrunk inverse (joint, joint) of the covariance within classes, whose means are (classes, joint)."""
    centred = samples.features - means[samples.labels]
    scatter = centred.T @ centred
    width, trace = len(scatter), scatter.trace() / max(len(centred) - 1, 1)
    return width * torch.linalg.pinv(scatter + trace * torch.eye(width, device=scatter.device))


def discriminant(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """W (classes, joint) and b (classes,) for class means, a common precision matrix, and equally likely classes."""
    weight = means @ precision
    return weight, -math.log(len(means)) - (weight * means).sum(dim=-1) / 2

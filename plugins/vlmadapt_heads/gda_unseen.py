"""GDA for seen and unseen classes (Wang et al., ICLR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmadapt.plugin import SEEN, Backbone, ForwardPass, Role, Support, Task, assign
from vlmadapt_heads.gda import GDA, GDAConfig, discriminant
from vlmadapt_heads.prototypes import first_batch
from vlmadapt_heads.samples import Samples, every_view


@dataclass
class GDAUnseenConfig(GDAConfig):
    """Options of GDA for seen and unseen classes.

    Args:
        passes: augmented views of each support image; each is a sample of its own.
        alpha: weight of the Gaussian classifier, before or without a search.
        search: choose alpha by validation accuracy; without validation images it keeps the value above.
        alphas: values of the search.
        neighbours: samples that stand for an unseen class: those nearest to its text feature.
        text_repeats: how often the text feature counts among them.
    """

    alpha: float = 0.1
    neighbours: int = 64
    text_repeats: int = 16


class GDAUnseen(GDA):
    """GDA with a classifier for seen classes, and one for others from the samples nearest to their texts.

    The classifier is that of GDA, z_c = s x . w_c + alpha (x . P mu_c - log C - mu_c P mu_c / 2), with other estimates:

        seen classes:    mu_c the class means, P the pseudo-inverse of the mean of the class covariances
        other classes:   mu_c = (sum of the k samples nearest to w_c by cosine + r w_c) / (k + r),
                         P = mean_c d ((k - 1) S_c + tr(S_c) I)^-1,  S_c their second moment about w_c, divisor k - 1

    Official code (mrflogs/ICLR24, `main_base2new.py`) takes 100 for s and the literals k = 64, r = 16, d = 512; one
    alpha serves both classifiers, chosen on validation images of the seen classes (on ImageNet on test images). The
    first P is not shrunk: with fewer samples than d it depends on the cut-off of the pseudo-inverse. Seen classes are
    recognised by their text features. Where the role of the classes is unknown, all take the second classifier. Its P
    is a mean over the classes asked for, so the scores of a class depend, weakly, on the others.
    """

    Config = GDAUnseenConfig
    limitations: ClassVar[dict[str, str]] = {}

    samples: Tensor
    texts: Tensor

    @property
    def answers_unseen(self) -> bool:
        """True: an unseen class borrows the samples nearest to its text."""
        return True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the classifier of seen classes, their text features (classes, joint) and all samples (N, joint)."""
        super().build(backbone, task)
        self.register_buffer("texts", torch.zeros_like(self.weight))
        self.register_buffer("samples", torch.zeros(0, backbone.image.joint))

    def prepare(self, support: Support) -> None:
        """Estimate the Gaussians of the seen classes and keep the samples."""
        super().prepare(support)
        assign(self.samples, every_view(support, self.config.passes).features)
        assign(self.texts, first_batch(support).zero_shot.text)

    def precision(self, samples: Samples, means: Tensor) -> Tensor:
        """Pseudo-inverse (joint, joint) of the mean of the class covariances."""
        centred = samples.features - means[samples.labels]
        counts = samples.counts(len(means))
        # Each sample's share of the mean over classes of unbiased covariances.
        shares = 1 / (counts - 1).clamp(min=1)[samples.labels] / len(means)
        return torch.linalg.pinv((shares[:, None] * centred).T @ centred)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """CLIP's logits plus alpha times the Gaussian ones, (B, classes)."""
        gaussian = self.gaussian(fwd) if role is SEEN else self._of_neighbours(fwd)
        return fwd.zero_shot.logits + self.alpha * gaussian

    def gaussian(self, fwd: ForwardPass) -> Tensor:
        """x W^T + b, (B, classes), for seen classes in the order of the pass."""
        columns = (fwd.zero_shot.text @ self.texts.T).argmax(dim=-1)
        return super().gaussian(fwd)[:, columns]

    def _of_neighbours(self, fwd: ForwardPass) -> Tensor:
        """x W^T + b, (B, classes), with W and b from the samples nearest to each class's text."""
        text, repeats = fwd.zero_shot.text, self.config.text_repeats
        k = min(self.config.neighbours, len(self.samples))
        near = self.samples[(text @ self.samples.T).topk(k, dim=-1).indices]  # (classes, k, joint)
        means = (near.sum(dim=1) + repeats * text) / (k + repeats)
        weight, bias = discriminant(means, mean_shrunk_inverse(near - text[:, None]))
        return fwd.zero_shot.image @ weight.T + bias


def mean_shrunk_inverse(centred: Tensor) -> Tensor:
    """Mean (d, d) over classes of d (Z^T Z + t I)^-1, t = tr(Z^T Z) / (k - 1), for centred samples Z (classes, k, d).

    By Woodbury's identity, so that matrices of k x k are inverted instead of d x d: the inverse is
    (I - Z^T (Z Z^T + t I)^-1 Z) / t.
    """
    classes, k, width = centred.shape
    trace = centred.square().sum(dim=(1, 2)) / max(k - 1, 1)
    gram = centred @ centred.mT + trace[:, None, None] * torch.eye(k, device=centred.device)
    inner = torch.linalg.solve(gram, centred) / trace[:, None, None]
    removed = centred.flatten(0, 1).T @ inner.flatten(0, 1)
    return width / classes * ((1 / trace).sum() * torch.eye(width, device=centred.device) - removed)

"""Tip-Adapter (Zhang et al., ECCV 2022), the training-free variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import (
    Backbone,
    DataError,
    ForwardPass,
    Recipe,
    Support,
    SupportMethod,
    Task,
    assign,
    collect,
    similarity,
)


@dataclass
class TipAdapterConfig:
    """Options of Tip-Adapter and Tip-Adapter-F.

    Args:
        passes: number of augmented views of each support image whose features are averaged.
        alpha: weight of the cache logits, before or without a search; published values differ by data set.
        beta: sharpness of the cache affinities, before or without a search; published values differ by data set.
        search: choose alpha and beta by validation accuracy; without validation images they keep the values above.
        max_alpha: upper end of the grid for alpha, exclusive; the lower end is 0.1.
        max_beta: upper end of the grid for beta, exclusive; the lower end is 0.1.
        alpha_steps: number of grid points for alpha.
        beta_steps: number of grid points for beta.
    """

    passes: int = 10
    alpha: float = 1.17
    beta: float = 1.0
    search: bool = True
    max_alpha: float = 3.0
    max_beta: float = 7.0
    alpha_steps: int = 20
    beta_steps: int = 200


class TipAdapter(SupportMethod):
    """A key-value cache of support image features whose logits are added to zero-shot CLIP, without training.

    Keys K (N, joint) are the unit mean features of the N support images over augmented views, values V (N, classes)
    their one-hot labels. With x = n(f) the unit image feature, w_i the unit text features and s CLIP's scale:

        z = s x w^T + alpha exp(-beta (1 - x K^T)) V

    Alpha and beta are the grid point with the best validation accuracy (the first on a tie, with beta in the outer loop
    and alpha in the inner one; the upper ends are excluded), or both 0 if no pair classifies any image correctly.
    Official code (gaopengcuhk/Tip-Adapter) uses 100 for s, averages features before it normalises them, and on ImageNet
    searches on the test images; here the search never sees a test image. Several templates are averaged as unit
    features.
    """

    Config = TipAdapterConfig
    api_version = 2
    recipe = Recipe(epochs=0, crop_scale=(0.5, 1.0))
    paper = "Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022"

    keys: Tensor
    labels: Tensor
    classes: Tensor
    alpha: Tensor
    beta: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create an empty cache, which `prepare` fills."""
        c = self.config
        if c.passes < 1 or min(c.alpha_steps, c.beta_steps) < 1:
            raise DataError("Tip-Adapter needs passes, alpha_steps and beta_steps of at least 1.")
        self.register_buffer("keys", torch.zeros(0, backbone.image.joint))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("classes", torch.tensor(len(task.classes)))
        self.class_count = len(task.classes)  # the same for Python, which would have to wait for a device
        self.register_buffer("alpha", torch.tensor(float(c.alpha)))
        self.register_buffer("beta", torch.tensor(float(c.beta)))

    def fitted(self) -> int:
        """The number of classes in the cache."""
        return self.class_count

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.class_count = int(self.classes)

    def prepare(self, support: Support) -> None:
        """Fill the cache and choose alpha and beta."""
        self.fill(support)
        self.search(support)

    def fill(self, support: Support) -> None:
        """Compute keys and labels from augmented views of the support images."""
        views = [collect(batches) for batches in support.epochs(augmented=True, times=self.config.passes)]
        mean = torch.stack([features for features, _ in views]).mean(dim=0)
        assign(self.keys, F.normalize(mean, dim=-1))
        assign(self.labels, views[0][1])

    def search(self, support: Support) -> None:
        """Set alpha and beta to the grid point with the best validation accuracy."""
        c = self.config
        if not c.search:
            return
        betas, alphas = _grid(c.max_beta, c.beta_steps), _grid(c.max_alpha, c.alpha_steps)
        weights = torch.tensor(alphas, device=self.keys.device)[:, None, None]
        correct = torch.zeros(len(betas), len(alphas), device=self.keys.device)
        images = 0
        for fwd in support.validation():
            images += len(fwd.labels)
            zero_shot, affinity = self.zero_shot(fwd), self.affinity(fwd)
            for i, beta in enumerate(betas):
                scores = zero_shot + weights * self.cached(affinity, beta)
                correct[i] += (scores.argmax(dim=-1) == fwd.labels).sum(dim=-1)
        if images:
            i, j = divmod(int(correct.argmax()), len(alphas))
            # The published search starts from 0 and 0, where it stays if no pair classifies any image correctly.
            self.beta.fill_(betas[i] if correct.any() else 0.0)
            self.alpha.fill_(alphas[j] if correct.any() else 0.0)

    def zero_shot(self, fwd: ForwardPass) -> Tensor:
        """CLIP's logits (B, classes)."""
        return fwd.scale * similarity(fwd.image(), fwd.zero_shot.text)

    def affinity(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, N) of image features with the keys."""
        return fwd.image() @ self.keys.T

    def cached(self, affinity: Tensor, beta: Tensor | float) -> Tensor:
        """Cache logits (B, classes) before the weight alpha, from the affinity (B, N)."""
        values = torch.eye(self.fitted(), device=affinity.device)[self.labels]
        return torch.exp(-beta * (1 - affinity)) @ values

    def scores(self, fwd: ForwardPass) -> Tensor:
        """CLIP's logits plus alpha times the cache logits, (B, classes)."""
        return self.zero_shot(fwd) + self.alpha * self.cached(self.affinity(fwd), self.beta)


def _grid(largest: float, steps: int) -> list[float]:
    """Evenly spaced values from 0.1 to `largest`, exclusive."""
    return [0.1 + i * (largest - 0.1) / steps for i in range(steps)]

"""Base class of APE and APE-T: a cache of support features on chosen channels, and the search of its settings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmadapt.plugin import Backbone, ForwardPass, Support, SupportMethod, Task, assign
from vlmadapt_heads.channels import best_channels, channel_count, criterion
from vlmadapt_heads.prototypes import first_batch
from vlmadapt_heads.samples import Samples, mean_view


@dataclass
class ChannelCacheConfig:
    """Options of APE and APE-T; the values of ImageNet, published ones differ by data set.

    Args:
        passes: augmented views of each support image whose features are averaged.
        channels: share of the feature channels that is chosen; 500 of the 1024 of RN50 on ImageNet.
        similarity_weight: weight of the similarity between classes in the choice of channels.
        variance_weight: weight of the variance over classes in the choice of channels.
        alpha: weight of the cache logits, before or without a search.
        beta: sharpness of the cache affinities, before or without a search.
        search: choose these two, in APE gamma too, by validation accuracy; without validation images they keep their
            values.
        max_alpha: upper end of the grid for alpha, exclusive; the lower end is 0.1.
        max_beta: upper end of the grid for beta, exclusive; the lower end is 0.1.
        alpha_steps: number of grid points for alpha.
        beta_steps: number of grid points for beta.
    """

    passes: int = 10
    channels: float = 0.48828125
    similarity_weight: float = 0.7
    variance_weight: float = 0.3
    alpha: float = 2.0
    beta: float = 1.0
    search: bool = True
    max_alpha: float = 7.0
    max_beta: float = 7.0
    alpha_steps: int = 20
    beta_steps: int = 200


class ChannelCache(SupportMethod):
    """Keys (N, joint) and labels of the support images, and the channels that tell classes apart best."""

    api_version = 2
    paper = "Zhu et al., Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement, ICCV 2023"

    keys: Tensor
    labels: Tensor
    classes: Tensor
    channels: Tensor
    alpha: Tensor
    beta: Tensor
    gamma: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create an empty cache, which `fill` fills."""
        c, width = self.config, backbone.image.joint
        self.class_count = len(task.classes)  # the same as `classes` for Python, which would have to wait for a device
        self.register_buffer("keys", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("classes", torch.tensor(self.class_count))
        self.register_buffer("channels", torch.arange(channel_count(width, c.channels)))
        self.register_buffer("alpha", torch.tensor(float(c.alpha)))
        self.register_buffer("beta", torch.tensor(float(c.beta)))
        self.register_buffer("gamma", torch.tensor(0.0))

    def fitted(self) -> int:
        """The number of classes in the cache."""
        return self.class_count

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.class_count = int(self.classes)

    def fill(self, support: Support) -> tuple[Samples, Tensor]:
        """Set keys and labels; return them, and the text features (classes, joint)."""
        samples = mean_view(support, self.config.passes)
        assign(self.keys, samples.features)
        assign(self.labels, samples.labels)
        return samples, first_batch(support).zero_shot.text.float()

    def choose_channels(self, similarity: Tensor, texts: Tensor) -> None:
        """Keep the channels with the largest criterion."""
        c = self.config
        values = criterion(similarity, texts, (c.similarity_weight, c.variance_weight))
        assign(self.channels, best_channels(values, c.channels))

    def values(self) -> Tensor:
        """One-hot labels (N, classes) of the keys."""
        return torch.eye(self.class_count, device=self.labels.device)[self.labels]

    def gammas(self) -> Sequence[float]:
        """Grid of the search for gamma; 0 alone where there is none."""
        return (0.0,)

    @abstractmethod
    def zero_shot(self, fwd: ForwardPass) -> Tensor:
        """Logits (B, classes) of the text features."""

    @abstractmethod
    def affinity(self, fwd: ForwardPass) -> Tensor:
        """Similarities (B, N) of image features with the keys."""

    @abstractmethod
    def cached(self, affinity: Tensor, beta: Tensor | float, gamma: Tensor | float) -> Tensor:
        """Cache logits (B, classes) before the weight alpha, from the affinity (B, N)."""

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Text logits plus alpha times the cache logits, (B, classes)."""
        return self.zero_shot(fwd) + self.alpha * self.cached(self.affinity(fwd), self.beta, self.gamma)

    def finish(self, support: Support) -> None:
        """Set alpha, beta and gamma to the grid point with the best validation accuracy."""
        c = self.config
        if not c.search:
            return
        alphas, betas = grid(0.1, c.max_alpha, c.alpha_steps), grid(0.1, c.max_beta, c.beta_steps)
        gammas = self.gammas()
        correct, images = self._correct(support, alphas, betas, gammas)
        if images:
            i, rest = divmod(int(correct.argmax()), len(alphas) * len(gammas))
            j, k = divmod(rest, len(gammas))
            # The published search starts from 0, where it stays if nothing classifies any image correctly.
            found = float(correct.any())
            self.beta.fill_(found * betas[i])
            self.alpha.fill_(found * alphas[j])
            self.gamma.fill_(found * gammas[k])

    def _correct(
        self, support: Support, alphas: Sequence[float], betas: Sequence[float], gammas: Sequence[float]
    ) -> tuple[Tensor, int]:
        """Validation images (betas, alphas, gammas) that are classified correctly, and the number of all."""
        correct = torch.zeros(len(betas), len(alphas), len(gammas), device=self.keys.device)
        weights = torch.tensor(alphas, device=self.keys.device)[:, None, None]
        images = 0
        for fwd in support.validation():
            images += len(fwd.labels)
            zero_shot, affinity = self.zero_shot(fwd), self.affinity(fwd)
            for i, beta in enumerate(betas):
                for k, gamma in enumerate(gammas):
                    scores = zero_shot + weights * self.cached(affinity, beta, gamma)
                    correct[i, :, k] += (scores.argmax(dim=-1) == fwd.labels).sum(dim=-1)
        return correct, images


def grid(least: float, largest: float, steps: int) -> list[float]:
    """Evenly spaced values from `least` to `largest`, exclusive."""
    return [least + i * (largest - least) / steps for i in range(steps)]

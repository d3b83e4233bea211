"""APE (Zhu et al., ICCV 2023), the training-free variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Backbone, ForwardPass, Recipe, Support, Task, assign
from vlmadapt_heads.channel_cache import ChannelCache, ChannelCacheConfig, grid
from vlmadapt_heads.channels import class_similarity

SMOOTHING = 1e-6


@dataclass
class APEConfig(ChannelCacheConfig):
    """Options of APE, in addition to those that it shares with APE-T.

    Args:
        gamma: sharpness of the weights of cache entries, before or without a search.
        max_gamma: upper end of the grid for gamma, exclusive; the lower end is 0.
        gamma_steps: number of grid points for gamma.
    """

    gamma: float = 0.1
    max_gamma: float = 0.5
    gamma_steps: int = 5


class APE(ChannelCache):
    """A key-value cache on the feature channels that tell classes apart, added to zero-shot CLIP, without training.

    Keys K (N, joint) are the unit mean features of the N support images over augmented views, V (N, classes) their
    one-hot labels, w_c the unit text features, x the unit image feature, s CLIP's scale. Of each channel j, J(j) =
    -a sim(j) + b var(j): sim is the mean product of its values over all pairs of samples (text feature or key) of two
    different classes, var its variance over the text features. The channels with the largest J are kept; x', K' and w'
    are features cut to them and normalised again:

        z = s x w^T + alpha exp(-beta (1 - x' K'^T)) diag(exp(gamma D)) V
        D_i = log2((1 + e) / (softmax(w' K'_i)_{y_i} + e)),   e = 1e-6

    Alpha, beta and gamma are the grid point with the best validation accuracy: the first on a tie, with beta in the
    outermost loop and gamma in the innermost; upper ends are excluded; all 0 if none classifies any image correctly.
    Official code (yangyangyang127/APE) takes 100 for s, but no scale within D; it adds GPT-3 descriptions to the
    templates; it saves sim under the data set's name, so later runs, APE-T included, read that of another support set;
    on ImageNet it searches on the test images. None of these is done here. Pairs of classes count alike, whatever their
    shots.
    """

    Config = APEConfig
    recipe = Recipe(epochs=0, crop_scale=(0.5, 1.0))

    divergence: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create an empty cache, which `prepare` fills."""
        super().build(backbone, task)
        self.gamma.fill_(self.config.gamma)
        self.register_buffer("divergence", torch.zeros(0))

    def prepare(self, support: Support) -> None:
        """Fill the cache, choose channels, and weight the entries."""
        samples, texts = self.fill(support)
        means = (samples.sums(self.class_count) + texts) / (samples.counts(self.class_count) + 1)[:, None]
        self.choose_channels(class_similarity(means), texts)
        assign(self.divergence, self._divergence(texts))

    def _divergence(self, texts: Tensor) -> Tensor:
        """D (N,): bits that separate the label of each key from its zero-shot probabilities."""
        probabilities = F.softmax(self._cut(self.keys) @ self._cut(texts).T, dim=-1)
        true = probabilities.gather(1, self.labels[:, None])[:, 0]
        return torch.log2((1 + SMOOTHING) / (true + SMOOTHING))

    def _cut(self, features: Tensor) -> Tensor:
        """Features (..., joint) cut to the channels kept, and normalised again."""
        return F.normalize(features[..., self.channels], dim=-1)

    def gammas(self) -> Sequence[float]:
        """Grid of the search for gamma."""
        return grid(0.0, self.config.max_gamma, self.config.gamma_steps)

    def zero_shot(self, fwd: ForwardPass) -> Tensor:
        """CLIP's logits (B, classes)."""
        return fwd.zero_shot.logits

    def affinity(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, N) of image features with the keys, on the channels kept."""
        return self._cut(fwd.zero_shot.image) @ self._cut(self.keys).T

    def cached(self, affinity: Tensor, beta: Tensor | float, gamma: Tensor | float) -> Tensor:
        """Cache logits (B, classes) before the weight alpha, from the affinity (B, N)."""
        return torch.exp(-beta * (1 - affinity)) @ (torch.exp(gamma * self.divergence)[:, None] * self.values())

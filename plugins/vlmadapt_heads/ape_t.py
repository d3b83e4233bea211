"""APE-T (Zhu et al., ICCV 2023), the trained variant of APE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, ForwardPass, Recipe, Support, Task, assign
from vlmadapt_heads.channel_cache import ChannelCache, ChannelCacheConfig
from vlmadapt_heads.channels import class_similarity


@dataclass
class APETConfig(ChannelCacheConfig):
    """Options of APE-T, which it shares with APE.

    Args:
        similarity_weight: weight of the similarity between classes in the choice of channels.
        variance_weight: weight of the variance over classes in the choice of channels.
    """

    similarity_weight: float = 0.2
    variance_weight: float = 0.8


class APET(ChannelCache):
    """A key-value cache with a trained residual per class on the channels that tell classes apart.

    With keys K, labels y_i, text features w_c, x and s as in APE, r_c a residual on the channels kept, 0 elsewhere, and
    v_i a weight of each key; r starts at 0 and v at 1:

        z_c = s x . (w_c + r_c) + alpha sum_{i: y_i = c} v_i exp(-beta (1 - x . (K_i + r_c)))

    Nothing is normalised after the residual, and all channels are used. The channels are chosen as in APE, but the
    similarity between classes is that of their text features alone. Alpha and beta keep their values in training and
    are searched afterwards as in APE. Official code (yangyangyang127/APE) has this variant commented out, takes 100 for
    s and keeps the epoch that is best on the validation images (on ImageNet the test images); here it is the last
    epoch.
    """

    Config = APETConfig
    recipe = Recipe(
        optimizer="adamw",
        lr=1e-4,
        eps=1e-3,
        epochs=20,
        batch_size=256,
        weight_decay=0.1,
        schedule="cosine-step",
        warmup_epochs=0,
        crop_scale=(0.5, 1.0),
    )

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create an empty cache, its weights (N, 1) and the residuals (classes, channels)."""
        super().build(backbone, task)
        self.value_weights = nn.Parameter(torch.ones(0, 1))
        self.residual = nn.Parameter(torch.zeros(len(task.classes), len(self.channels)))

    def prepare(self, support: Support) -> None:
        """Fill the cache and choose channels."""
        samples, texts = self.fill(support)
        self.choose_channels(class_similarity(texts), texts)
        assign(self.value_weights, torch.ones(len(samples.labels), 1))

    def zero_shot(self, fwd: ForwardPass) -> Tensor:
        """Logits (B, classes) of the text features with their residuals."""
        texts = fwd.zero_shot.text.float().index_add(1, self.channels, self.residual)
        return fwd.scale * fwd.zero_shot.image @ texts.T

    def affinity(self, fwd: ForwardPass) -> Tensor:
        """Products (B, N) of image features with the keys and the residuals of their classes."""
        return fwd.zero_shot.image @ self.keys.index_add(1, self.channels, self.residual[self.labels]).T

    def cached(self, affinity: Tensor, beta: Tensor | float, gamma: Tensor | float) -> Tensor:
        """Cache logits (B, classes) before the weight alpha, from the affinity (B, N)."""
        return torch.exp(-beta * (1 - affinity)) @ (self.value_weights * self.values())

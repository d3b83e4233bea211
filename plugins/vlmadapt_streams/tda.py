"""TDA (Karmanov et al., CVPR 2024): caches that the test images fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vlmadapt.plugin import Backbone, DataError, ForwardPass, Method, Recipe, Role, Task


@dataclass
class TDAConfig:
    """Options of TDA.

    Args:
        positive_shots: images per class in the positive cache; 0 switches it off.
        positive_alpha: weight of the positive cache.
        positive_beta: sharpness of its affinities.
        negative_shots: images per class in the negative cache; 0 switches it off.
        negative_alpha: weight of the negative cache.
        negative_beta: sharpness of its affinities.
        min_entropy: an image enters the negative cache if its relative entropy is above this
        max_entropy: and below this.
        min_probability: an image in the negative cache counts against classes whose probability is above this
        max_probability: and below this.
        views: views of each test image; with more than 1 the most confident tenth is averaged.
    """

    positive_shots: int = 3
    positive_alpha: float = 2.0
    positive_beta: float = 5.0
    negative_shots: int = 2
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    min_entropy: float = 0.2
    max_entropy: float = 0.5
    min_probability: float = 0.03
    max_probability: float = 1.0
    views: int = 1


class TDA(Method):
    """Two caches of confident test images, one for and one against classes, filled while images are classified.

    With f the unit image feature, z CLIP's logits, p = softmax(z) and H their entropy (natural logarithm), each image
    first updates the caches of its predicted class, each of which keeps the images of the lowest H:

        positive: always                                             (k_j, the predicted class c_j as one-hot v_j)
        negative: if min_entropy < H / log2(classes) < max_entropy   (k_j, v_j = 1 where min < p_j < max, else 0)

    and is then scored with

        z + a+ sum_j exp(-b+ (1 - f . k_j)) v_j - a- sum_j exp(-b- (1 - f . k_j)) v_j.

    Official code (kdiAAA/TDA) divides a natural logarithm by one to base 2, so that the relative entropy is at most
    0.69; it takes 100 for CLIP's scale and stores caches in half precision. For the variants of ImageNet it has 63
    more views, `views=64` here: random crops, each mixed by AugMix with changed copies of it. The most confident tenth
    of all views is averaged. The order of the images is drawn by the seed, as there.
    """

    Config = TDAConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Karmanov et al., Efficient Test-Time Adaptation of Vision-Language Models, CVPR 2024"
    touches = ()
    track = "test-time"
    streams = True
    limitations: ClassVar[dict[str, str]] = {"added-class": "the entropy over all classes decides what the caches keep"}

    positive_keys: Tensor
    positive_entropies: Tensor
    negative_keys: Tensor
    negative_entropies: Tensor
    negative_values: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """There is nothing to train.

        Raises:
            DataError: so few views that no tenth of them is left.
        """
        if self.config.views < 1 or 1 < self.config.views < 10:
            raise DataError(f"views is {self.config.views}; it is 1, or 10 or more, of which a tenth is averaged.")
        self.joint = backbone.image.joint

    @property
    def test_views(self) -> int:
        """As the options say."""
        return self.config.views

    @property
    def test_augmentation(self) -> Literal["augmix"]:
        """As in official code."""
        return "augmix"

    def stream_start(self, names: Sequence[str], role: Role) -> None:
        """Empty both caches: keys (classes, shots, joint), entropies (classes, shots), values of the negative one."""
        c, classes = self.config, len(names)
        for name, shots in (("positive", c.positive_shots), ("negative", c.negative_shots)):
            self.register_buffer(f"{name}_keys", torch.zeros(classes, shots, self.joint), persistent=False)
            self.register_buffer(f"{name}_entropies", torch.full((classes, shots), math.inf), persistent=False)
        values = torch.zeros(classes, c.negative_shots, classes, dtype=torch.bool)
        self.register_buffer("negative_values", values, persistent=False)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Scores (B, classes); images are taken in order, each after it has entered the caches."""
        views = self.config.views
        features = fwd.zero_shot.image.float().unflatten(0, (-1, views))
        logits = fwd.zero_shot.logits.float().unflatten(0, (-1, views))
        return torch.stack([self.score(f, z) for f, z in zip(features, logits, strict=True)])

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Update the caches with an image and score it.

        Args:
            features: unit features (views, joint).
            logits: CLIP's logits (views, classes).

        Returns:
            Scores (classes,).
        """
        features, logits = confident(features, logits)
        probabilities = logits.softmax(dim=-1).mean(dim=0)
        entropy = entropy_of_mean(logits)
        feature, score = features.mean(dim=0), logits.mean(dim=0)
        self.update(feature, probabilities, entropy, score.argmax())
        return score + self.positive_scores(feature) - self.negative_scores(feature)

    def update(self, feature: Tensor, probabilities: Tensor, entropy: Tensor, predicted: Tensor) -> None:
        """Put an image into the caches of its predicted class, in the place of the least confident one."""
        c = self.config
        relative = entropy / math.log2(max(len(probabilities), 2))
        uncertain = (relative > c.min_entropy) & (relative < c.max_entropy)
        counts_against = (probabilities > c.min_probability) & (probabilities < c.max_probability)
        if c.positive_shots:
            insert(self.positive_entropies, entropy, predicted, (self.positive_keys, feature))
        if c.negative_shots:
            entropy = torch.where(uncertain, entropy, math.inf)
            new = (self.negative_keys, feature), (self.negative_values, counts_against)
            insert(self.negative_entropies, entropy, predicted, *new)

    def positive_scores(self, feature: Tensor) -> Tensor:
        """What the positive cache adds to the scores (classes,)."""
        c = self.config
        near = affinities(feature, self.positive_keys, self.positive_entropies, c.positive_beta)
        return c.positive_alpha * near.sum(dim=1)

    def negative_scores(self, feature: Tensor) -> Tensor:
        """What the negative cache subtracts from the scores (classes,)."""
        c = self.config
        near = affinities(feature, self.negative_keys, self.negative_entropies, c.negative_beta)
        return c.negative_alpha * torch.einsum("ck,ckn->n", near, self.negative_values.float())


def confident(features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits of the tenth of the views that is most confident; of a single view as they are."""
    if len(logits) == 1:
        return features, logits
    entropy = -(logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)
    best = entropy.argsort()[: len(logits) // 10]
    return features[best], logits[best]


def entropy_of_mean(logits: Tensor) -> Tensor:
    """Entropy of the mean prediction of several views, from their logits (views, classes)."""
    mean = logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))
    mean = mean.clamp_min(torch.finfo(mean.dtype).min)
    return -(mean * mean.exp()).sum()


def insert(entropies: Tensor, entropy: Tensor, row: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Replace the entry of highest entropy in a row of a cache if the new one's is lower, and keep the row sorted.

    Args:
        entropies: (classes, shots), ascending in each row, infinite for empty places; changed in place.
        entropy: of the new entry, scalar.
        row: class, scalar.
        pairs: tensors (classes, shots, ...) of the cache, changed in place, each with its new entry.
    """
    old = entropies[row]
    lower = entropy < old[-1]
    new = torch.cat([old[:-1], torch.where(lower, entropy, old[-1])[None]])
    order = new.argsort(stable=True)
    entropies[row] = new[order]
    for tensor, value in pairs:
        last = torch.where(lower, value.to(tensor.dtype), tensor[row, -1])
        tensor[row] = torch.cat([tensor[row, :-1], last[None]])[order]


def affinities(feature: Tensor, keys: Tensor, entropies: Tensor, beta: float) -> Tensor:
    """exp(-beta (1 - f . k)) for each key (classes, shots), 0 for empty places."""
    near = torch.exp(-beta * (1 - keys @ feature))
    return torch.where(entropies.isfinite(), near, 0.0)

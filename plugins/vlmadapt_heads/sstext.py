"""SS-Text (Silva-Rodríguez et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Recipe, Support, assign
from vlmadapt_heads.prototypes import PrototypeHead, first_batch, unit_text_prototypes
from vlmadapt_heads.samples import Samples, plain_view


@dataclass
class SSTextConfig:
    """Options of SS-Text.

    Args:
        prior: weight lambda_c of the text feature: 'shots' is 1/N for N support images, 'class-shots' is 1/N_c for
            the N_c images of the class, 'performance' is the mean zero-shot probability of the true class,
            'fixed' is `weight`.
        weight: lambda of every class with `prior` 'fixed'.
        repel: push each prototype away from the mean of all, as SS-Text+ does (with `prior` 'class-shots').
    """

    prior: Literal["shots", "class-shots", "performance", "fixed"] = "shots"
    weight: float = 0.1
    repel: bool = False


class SSText(PrototypeHead):
    """A linear head in closed form: the class's image features, pulled towards its text feature.

    With f_i the unit features of the N support images without augmentation, t_c the mean of the unit text features of
    class c over templates, not normalised again, and s CLIP's scale:

        p_c = s / (N lambda_c) sum_{i: y_i = c} f_i + t_c,    z_c = s n(f) . n(p_c)

    A class without images keeps its text feature. lambda is 1/N (SS-Text), 1/N_c (SS-Text+) or the mean zero-shot
    probability of the true class, that of a class without images the mean of the others, and at least 1e-3. With lambda
    = 1/N the text weighs 1/s as much as one image. SS-Text+ then subtracts n(2 p_c - mean_k p_k) from p_c: a unit
    vector, which turns a prototype the less, the longer it is. Official code (jusiro/SS-Text) takes features of medical
    models; CLIP's take their place here.
    """

    Config = SSTextConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Silva-Rodríguez et al., Few-Shot, Now for Real: Medical VLMs Adaptation, MICCAI 2025"

    def prepare(self, support: Support) -> None:
        """Solve for the prototypes."""
        self.start(support)
        scale, samples = first_batch(support).scale, plain_view(support)
        assign(self.prototypes, self.solved(samples, scale))

    def start(self, support: Support) -> None:
        """Set the prototypes to the text features."""
        assign(self.prototypes, unit_text_prototypes(first_batch(support)))

    def solved(self, samples: Samples, scale: Tensor) -> Tensor:
        """Prototypes (classes, joint) from samples and from the text features that the prototypes are now."""
        weights = scale / (len(samples.labels) * self._prior(samples, scale))
        found = weights[:, None] * samples.sums(self.fitted()) + self.prototypes
        if self.config.repel:
            found = found - F.normalize(2 * found - found.mean(dim=0), dim=-1)
        return found

    def _prior(self, samples: Samples, scale: Tensor) -> Tensor:
        """lambda (classes,) of each class."""
        counts = samples.counts(self.fitted())
        if self.config.prior == "fixed":
            return torch.full_like(counts, self.config.weight)
        if self.config.prior == "shots":
            return torch.full_like(counts, 1 / len(samples.labels)).clamp(min=1e-3)
        if self.config.prior == "class-shots":
            return (1 / counts).clamp(min=1e-3)  # infinite without images, whose sum is 0
        return self._performance(samples, scale).clamp(min=1e-3)

    def _performance(self, samples: Samples, scale: Tensor) -> Tensor:
        """Mean zero-shot probability (classes,) of the true class; without images the mean of the other classes."""
        counts = samples.counts(self.fitted())
        probabilities = F.softmax(self.logits(samples.features, self.prototypes, scale), dim=-1)
        true = (samples.of_class(self.fitted()) * probabilities).sum(dim=0) / counts.clamp(min=1)
        return torch.where(counts > 0, true, true.sum() / (counts > 0).sum())

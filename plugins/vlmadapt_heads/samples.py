"""Labelled features of the support images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Support, collect


class Samples(NamedTuple):
    """Unit image features with their labels.

    Attributes:
        features: (N, joint).
        labels: (N,).
    """

    features: Tensor
    labels: Tensor

    def of_class(self, classes: int) -> Tensor:
        """One-hot labels (N, classes)."""
        return F.one_hot(self.labels, classes).to(self.features.dtype)

    def counts(self, classes: int) -> Tensor:
        """Number of samples (classes,) of each class."""
        return self.of_class(classes).sum(dim=0)

    def sums(self, classes: int) -> Tensor:
        """Sum (classes, joint) of each class's features."""
        return self.of_class(classes).T @ self.features

    def means(self, classes: int) -> Tensor:
        """Mean (classes, joint) of each class's features; 0 for a class without samples."""
        return self.sums(classes) / self.counts(classes).clamp(min=1)[:, None]


def every_view(support: Support, views: int) -> Samples:
    """Each augmented view of each support image as a sample of its own, one pass after another."""
    return views_of(support, views)[0]


def mean_view(support: Support, views: int) -> Samples:
    """One sample per support image: its unnormalised features averaged over augmented views, then normalised."""
    return views_of(support, views)[1]


def views_of(support: Support, views: int) -> tuple[Samples, Samples]:
    """Both of the above, with each view encoded once."""
    passes = [collect(batches) for batches in support.epochs(augmented=True, times=views)]
    features, labels = (torch.cat(parts) for parts in zip(*passes, strict=True))
    mean = features.unflatten(0, (views, -1)).mean(dim=0)
    return Samples(F.normalize(features, dim=-1), labels), Samples(F.normalize(mean, dim=-1), passes[0][1])


def plain_view(support: Support) -> Samples:
    """One sample per support image, without augmentation."""
    features, labels = collect(next(support.epochs(augmented=False)))
    return Samples(F.normalize(features, dim=-1), labels)


def held_out(support: Support) -> Samples:
    """The validation images; none (0, 0) if there are no such images."""
    features, labels = collect(support.validation())
    return Samples(F.normalize(features, dim=-1), labels)

"""Selection of feature channels that tell classes apart (Zhu et al., ICCV 2023)."""

from __future__ import annotations

from torch import Tensor


def class_similarity(means: Tensor) -> Tensor:
    """Mean product (joint,) of each channel over all ordered pairs of different classes, for class means.

    Class means stand for all pairs of samples of two classes, since the mean of products is the product of means.
    """
    pairs = max(len(means) * (len(means) - 1), 1)
    return (means.sum(dim=0).square() - means.square().sum(dim=0)) / pairs


def criterion(similarity: Tensor, texts: Tensor, weights: tuple[float, float]) -> Tensor:
    """How well each channel (joint,) tells classes apart: low similarity and high variance over the text features."""
    return weights[1] * texts.var(dim=0, correction=min(1, len(texts) - 1)) - weights[0] * similarity


def best_channels(values: Tensor, share: float) -> Tensor:
    """Indices of the channels with the largest values, in falling order; `share` is the part that is kept."""
    return values.topk(channel_count(len(values), share)).indices


def channel_count(width: int, share: float) -> int:
    """Number of channels kept of `width`; at least one."""
    return min(max(round(share * width), 1), width)

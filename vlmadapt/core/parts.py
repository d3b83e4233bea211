"""Building blocks shared by many methods."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone import TextTower
from vlmadapt.errors import DataError


def random_tokens(*shape: int, std: float = 0.02) -> nn.Parameter:
    """Trainable tokens drawn from N(0, std^2)."""
    return nn.Parameter(torch.randn(*shape) * std)


def tokens_from_text(text: TextTower, words: str, n: int | None = None) -> tuple[nn.Parameter, str]:
    """Trainable tokens that start at the embeddings of given words.

    Args:
        text: the text tower.
        words: e.g. "a photo of a".
        n: how many tokens become trainable, by default the number of words split at single spaces.

    Returns:
        The first n token embeddings (n, width), and the template text that puts them before the remaining words,
        e.g. "[2] of a". A comma is a token but not a word; published code counts words, and the tokens beyond that
        count stay frozen text, here too.

    Raises:
        DataError: there are fewer than n tokens, or the remaining tokens do not start at a word.
    """
    parts = words.split(" ")
    n = len(parts) if n is None else n
    embedded = text.words(words)
    if len(embedded) < n:
        raise DataError(
            f"'{words}' has only {len(embedded)} of the {n} tokens that would start there; give more words."
        )
    for kept in range(len(parts) + 1):
        rest = " ".join(parts[len(parts) - kept :])
        if len(text.words(rest)) == len(embedded) - n:
            return nn.Parameter(embedded[:n]), f"[{n}] {rest}".strip()
    raise DataError(f"'{words}' cannot be split after {n} tokens, which is inside a word.")


def zero_based(layers: Sequence[int]) -> list[int]:
    """Blocks counted from 1, as papers and options name them, as sorted indices from 0.

    Raises:
        DataError: the list is empty, or a number is repeated or below 1.
    """
    if not layers or len(set(layers)) < len(layers) or min(layers) < 1:
        raise DataError(f"layers must be different numbers from 1 on, not {list(layers)}.")
    return sorted(layer - 1 for layer in layers)


def clone_linear(module: nn.Linear, n: int) -> nn.ModuleList:
    """A list of n copies of a linear map, trained separately."""
    return nn.ModuleList(copy.deepcopy(module) for _ in range(n))


def map_each(sources: Iterable[Tensor], weights: Tensor, biases: Tensor) -> list[Tensor]:
    """Apply each of L linear maps to its own source: L times (n, source) -> L times (n, width), in one product.

    A loop over such small maps takes a GPU about ten kernels for each, forward and backward.

    Args:
        sources: L tensors of the same shape.
        weights: (L, width, source), for example `torch.stack([m.weight for m in maps])`.
        biases: (L, width).
    """
    return list(torch.baddbmm(biases[:, :, None], weights, torch.stack(tuple(sources)).mT).mT)


class LowRank(nn.Module):
    """A trainable low-rank matrix A B, initialised to zero.

    A (rows, rank) starts Kaiming-uniform with a = sqrt(5), that is in +-1/sqrt(rank); B (rank, columns) at zero.
    """

    def __init__(self, rows: int, columns: int, rank: int):
        super().__init__()
        self.a = nn.Parameter(torch.empty(rows, rank))
        self.b = nn.Parameter(torch.zeros(rank, columns))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self) -> Tensor:
        """The matrix (rows, columns)."""
        return self.a @ self.b


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - mean cosine of the rows of two matrices."""
    return 1 - F.cosine_similarity(a, b, dim=-1).mean()

"""Initialisation of contexts, and the layers that deep prompts enter at."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from vlmadapt.plugin import EMBEDDING, TextTower, random_tokens, tokens_from_text


def starting_context(text: TextTower, words: str, n: int) -> tuple[nn.Parameter, str]:
    """Create a context (n, width) initialised with the first n tokens of `words`, and its template.

    The remaining words stay frozen text before the class name. With more than 4 tokens, or no words, the initialisation
    is random; the limit of 4 is that of the published code.
    """
    if words and n <= 4:
        context, prefix = tokens_from_text(text, words, n)
        return context, f"{prefix} {{}}."
    return random_tokens(n, text.width), f"[{n}] {{}}."


def by_depth(tokens: Iterable[Tensor], blocks: int) -> dict[int, Tensor]:
    """Key tokens by the layer they enter at: the embedding, then before blocks 1, 2, ... (counted from 0).

    Args:
        tokens: tokens of each depth.
        blocks: number of blocks of the tower; tokens for further depths are not used.
    """
    return dict(zip((EMBEDDING, *range(1, blocks)), tokens, strict=False))

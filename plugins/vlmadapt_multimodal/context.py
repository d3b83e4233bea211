"""How the tokens of these methods start, and where they enter."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from vlmadapt.plugin import EMBEDDING, TextTower, random_tokens, tokens_from_text


def starting_context(text: TextTower, words: str, n: int) -> tuple[nn.Parameter, str]:
    """A context (n, width) that starts at the first n tokens of some words, and the template it stands in.

    The words left over stay frozen text before the class name. With more than 4 tokens, or no words, the start is
    random; that limit is the published code's.
    """
    if words and n <= 4:
        context, start = tokens_from_text(text, words, n)
        return context, f"{start} {{}}."
    return random_tokens(n, text.width), f"[{n}] {{}}."


def by_depth(tokens: Iterable[Tensor], blocks: int) -> dict[int, Tensor]:
    """Tokens by the layer they enter at: the embedding, then before block 1, 2, ... (from 0) of a tower's blocks.

    Where there are more tokens than blocks, those left over enter nowhere.
    """
    return dict(zip((EMBEDDING, *range(1, blocks)), tokens, strict=False))

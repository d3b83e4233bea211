"""How the text contexts of these methods start."""

from __future__ import annotations

from torch import nn

from vlmadapt.plugin import TextTower, random_tokens, worded_tokens


def starting_context(text: TextTower, words: str, n: int) -> tuple[nn.Parameter, str]:
    """A context (n, width) that starts at the first n tokens of some words, and the template it stands in.

    The words left over stay frozen text before the class name. With more than 4 tokens, or no words, the start is
    random; that limit is the published code's.
    """
    if words and n <= 4:
        context, start = worded_tokens(text, words, n)
        return context, f"{start} {{}}."
    return random_tokens(n, text.width), f"[{n}] {{}}."

"""How a learned context starts and where the class name stands in it."""

from __future__ import annotations

from typing import Literal

from torch import nn

from vlmadapt.plugin import DataError, TextTower, random_tokens, worded_tokens

Position = Literal["end", "middle", "front"]


def start_context(text: TextTower, words: str, tokens: int) -> tuple[nn.Parameter, str]:
    """A context (n, width) and the template text that makes room for it.

    It starts at the embeddings of `words`, which then decide its length, or at random where there are none.
    """
    if words:
        return worded_tokens(text, words)
    room = row_room(tokens)
    return random_tokens(tokens, text.width), room


def row_template(n: int, position: Position) -> str:
    """A row with n learned vectors and the class name behind, within or in front of them."""
    if position == "middle" and n > 1:
        return f"{row_room(n // 2)} {{}} {row_room(n - n // 2)}."
    return f"{{}} {row_room(n)}." if position == "front" else f"{row_room(n)} {{}}."


def row_room(n: int) -> str:
    """The placeholder of n learned vectors.

    Raises:
        DataError: there are none.
    """
    if n < 1:
        raise DataError("a context needs at least one token.")
    return f"[{n}]"

"""Initialisation of a learned context, and the position of the class name in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vlmadapt.plugin import (
    DataError,
    Template,
    TextTower,
    TokenizedTexts,
    Tokenizer,
    random_tokens,
    readable,
    tokens_from_text,
)

Position = Literal["end", "middle", "front"]


def start_context(text: TextTower, words: str, tokens: int) -> tuple[nn.Parameter, str]:
    """Create a trainable context (n, width) and the template text with its placeholder.

    The context is initialised with the embeddings of `words`, and its length is then the number of words. If `words` is
    empty, it has `tokens` random vectors.

    Raises:
        DataError: `words` is empty and `tokens` is less than 1.
    """
    if words:
        return tokens_from_text(text, words)
    template = placeholder(tokens)
    return random_tokens(tokens, text.width), template


def placeholder(n: int) -> str:
    """Template text `[n]` that reserves positions for n learned vectors.

    Raises:
        DataError: n is less than 1.
    """
    if n < 1:
        raise DataError("a context needs at least one token.")
    return f"[{n}]"


@dataclass(frozen=True)
class PlacedName(Template):
    """Template `[n] {}.` whose class name may come before the learned vectors or between their two halves.

    As in all published code, the prompt is first tokenised with the name after the context. Then as many tokens as the
    name has when tokenised alone move forward, before the second half of the context or before all of it. These are
    exactly the tokens of the name, unless frozen words separate context and name, or the tokenizer merges the full stop
    with a name that ends in punctuation.

    Attributes:
        position: position of the class name relative to the learned vectors.
    """

    position: Position = "end"

    def write(self, names: Sequence[str], text: Tokenizer) -> TokenizedTexts:
        """Tokenise the prompt of each class."""
        tokenized = super().write(names, text)
        if self.position == "end":
            return tokenized
        kept = self.learned // 2 if self.position == "middle" else 0
        moved = [
            _move_name(ids, positions, kept, int(length))
            for ids, positions, length in zip(tokenized.ids, tokenized.context, _name_lengths(names, text), strict=True)
        ]
        ids, context = (torch.stack(column) for column in zip(*moved, strict=True))
        return replace(tokenized, ids=ids, context=context)


def _move_name(ids: Tensor, positions: Tensor, kept: int, length: int) -> tuple[Tensor, Tensor]:
    """Move the `length` tokens after the context to just after its first `kept` vectors.

    Args:
        ids: (context length of the tower,) token ids of a prompt.
        positions: (n,) positions of the learned vectors.
        kept: number of learned vectors that stay before the name.
        length: number of tokens to move.

    Returns:
        The new ids and the new positions.
    """
    start, end = int(positions[0]) + kept, int(positions[-1]) + 1
    name, rest = ids[end : end + length], ids[end + length :]
    moved_ids = torch.cat([ids[:start], name, ids[start:end], rest])
    return moved_ids, torch.cat([positions[:kept], positions[kept:] + length])


def _name_lengths(names: Sequence[str], text: Tokenizer) -> Tensor:
    """Number of tokens (classes,) of each class name on its own."""
    return text.words_end(text.tokenize([readable(name) for name in names])) - text.leading

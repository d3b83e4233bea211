"""How a learned context starts and where the class name stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vlmadapt.plugin import DataError, Template, TextTower, TokenizedTexts, random_tokens, readable, tokens_from_text

Position = Literal["end", "middle", "front"]


def start_context(text: TextTower, words: str, tokens: int) -> tuple[nn.Parameter, str]:
    """A context (n, width) and the template text that makes room for it.

    It starts at the embeddings of `words`, which then decide its length, or at random where there are none.
    """
    if words:
        return tokens_from_text(text, words)
    room = row_room(tokens)
    return random_tokens(tokens, text.width), room


def row_room(n: int) -> str:
    """The placeholder of n learned vectors.

    Raises:
        DataError: there are none.
    """
    if n < 1:
        raise DataError("a context needs at least one token.")
    return f"[{n}]"


@dataclass(frozen=True)
class PlacedName(Template):
    """A row `[n] {}.` whose class name may stand in front of the learned vectors or in the middle of them.

    As in all published code, the row is written with the name behind the context. Then as many tokens as the name has
    by itself move forward, in front of the second half of the context or of all of it. These are the name's own tokens
    unless frozen words stand between context and name, or the full stop melts into a name that ends in punctuation.
    """

    position: Position = "end"

    def write(self, names: Sequence[str], text: TextTower) -> TokenizedTexts:
        """Tokenise the row of each class name."""
        rows = super().write(names, text)
        if self.position == "end":
            return rows
        kept = self.learned // 2 if self.position == "middle" else 0
        moved = [
            _moved(ids, places, kept, int(length))
            for ids, places, length in zip(rows.ids, rows.context, _name_lengths(names, text), strict=True)
        ]
        ids, context = (torch.stack(column) for column in zip(*moved, strict=True))
        return replace(rows, ids=ids, context=context)


def _moved(ids: Tensor, places: Tensor, kept: int, length: int) -> tuple[Tensor, Tensor]:
    """A row and the places of its context, after `length` tokens moved in front of all but `kept` learned vectors."""
    first, behind = int(places[0]) + kept, int(places[-1]) + 1
    name, rest = ids[behind : behind + length], ids[behind + length :]
    return torch.cat([ids[:first], name, ids[first:behind], rest]), torch.cat([places[:kept], places[kept:] + length])


def _name_lengths(names: Sequence[str], text: TextTower) -> Tensor:
    """(classes,) tokens of each class name by itself."""
    return text.end(text.tokenize([readable(name) for name in names])) - text.end(text.tokenize([""]))

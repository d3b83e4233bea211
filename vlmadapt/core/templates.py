"""Prompt templates and the token rows written from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmadapt.errors import DataError

if TYPE_CHECKING:
    from vlmadapt.core.backbone import TextTower

_PLACEHOLDER = re.compile(r"\[(\d+)\]")


def readable(name: str) -> str:
    """A class name as it is written into a prompt: underscores become spaces, as in all published code."""
    return " ".join(name.replace("_", " ").split())


@dataclass(frozen=True)
class TokenRows:
    """Token rows of a class list.

    Attributes:
        ids: (classes, context) token ids, padded.
        end: (classes,) place of the token that is read (end of text).
        context: (classes, n) places of the learned vectors, n = 0 where there are none.
    """

    ids: Tensor
    end: Tensor
    context: Tensor


@dataclass(frozen=True)
class Template:
    """A text with `{}` for the class name and any number of `[n]` for n learned vectors.

    A template without `{}` reads the same for every class. A subclass may write rows in another way.

    Attributes:
        text: the template.
        raw: write class names as they are given, underscores included; a few published codes do.
    """

    text: str
    raw: bool = False

    @classmethod
    def parse(cls, text: str, *, raw: bool = False) -> Template:
        """Check a template.

        Raises:
            DataError: there is more than one `{}`.
        """
        if text.count("{}") > 1:
            raise DataError(f"the template '{text}' has several '{{}}'; there is one class name to write.")
        return cls(text, raw)

    @property
    def learned(self) -> int:
        """How many learned vectors the template has room for."""
        return sum(int(n) for n in _PLACEHOLDER.findall(self.text))

    def pieces(self, name: str) -> list[tuple[str, int]]:
        """(text before a group, its length) for each `[n]`, then (the whole text, 0)."""
        parts = _PLACEHOLDER.split(self.text)
        text, groups = parts[0].replace("{}", name), []
        for length, following in zip(parts[1::2], parts[2::2], strict=True):
            groups.append((text, int(length)))
            text += " ".join(["X"] * int(length)) + following.replace("{}", name)
        return [*groups, (text, 0)]

    def write(self, names: Sequence[str], text: TextTower) -> TokenRows:
        """Tokenise the template for each class name.

        Raises:
            DataError: no names, an empty name, or a text longer than the context of the tower.
        """
        if not names:
            raise DataError("there are no classes to write prompts for.")
        written = [name if self.raw else readable(name) for name in names]
        if "{}" in self.text and not all(name.strip() for name in written):
            empty = next(i for i, name in enumerate(written) if not name.strip())
            raise DataError(f"class {empty} has an empty name; every class needs a name that can be read.")
        pieces = [self.pieces(name) for name in written]
        texts = [groups[-1][0] for groups in pieces]
        lengths = text.lengths(texts)
        if (lengths > text.context).any():
            worst = int(lengths.argmax())
            raise DataError(
                f"the prompt for class '{written[worst][:60]}' has {int(lengths[worst])} tokens, more than the "
                f"{text.context} that the text tower takes; shorten the name or the template."
            )
        ids = text.tokenize(texts)
        context = [_places(column, text) for column in list(zip(*pieces, strict=True))[:-1]]
        nowhere = torch.zeros(len(names), 0, dtype=torch.long)
        return TokenRows(ids, text.end(ids), torch.cat([nowhere, *context], dim=1))


def _places(groups: Sequence[tuple[str, int]], text: TextTower) -> Tensor:
    """(classes, n) places of one placeholder group, counted in tokens of the text before it."""
    length = groups[0][1]
    start = text.end(text.tokenize([before.strip() for before, _ in groups]))
    stop = text.end(text.tokenize([before + " ".join(["X"] * length) for before, _ in groups]))
    if not torch.equal(stop - start, torch.full_like(start, length)):
        raise DataError("this backbone's tokenizer does not write 'X' as one token, which learned contexts need.")
    return start[:, None] + torch.arange(length)

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
class Template:
    """A text with one `{}` for the class name and any number of `[n]` for n learned vectors."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Check a template.

        Raises:
            DataError: there is not exactly one `{}`.
        """
        if text.count("{}") != 1:
            raise DataError(f"the template '{text}' must contain '{{}}' exactly once, where the class name goes.")
        return cls(text)

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


@dataclass(frozen=True)
class TokenRows:
    """Token rows of a class list.

    Attributes:
        ids: (classes, context) token ids, padded.
        end: (classes,) index of the token that is read (end of text).
        context: (classes, n) places of the learned vectors, n = 0 where there are none.
    """

    ids: Tensor
    end: Tensor
    context: Tensor


def write(template: Template, names: Sequence[str], text: TextTower) -> TokenRows:
    """Tokenise a template for each class name.

    Raises:
        DataError: no names, an empty name, or a text longer than the context of the tower.
    """
    if not names:
        raise DataError("there are no classes to write prompts for.")
    names = [readable(name) for name in names]
    if "" in names:
        raise DataError(f"class {names.index('')} has an empty name; every class needs a readable name.")
    groups = [template.pieces(name) for name in names]
    pieces = [template.pieces(name) for name in names]
    texts = [groups[-1][0] for groups in pieces]
    lengths = text.lengths(texts)
    if (lengths > text.context).any():
        worst = int(lengths.argmax())
        raise DataError(
            f"the prompt for class '{names[worst][:60]}' has {int(lengths[worst])} tokens, more than the {text.context} "
            "that the text tower takes; shorten the name or the template."
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

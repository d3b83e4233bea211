"""Prompt templates, and the token ids written from them for a list of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlmadapt.deprecated import renamed_arguments
from vlmadapt.errors import DataError
from vlmadapt.text import readable

_PLACEHOLDER = re.compile(r"\[(\d+)\]")


class Tokenizer(Protocol):
    """What a template needs of a text tower."""

    context: int
    """Longest text, in tokens."""

    @property
    def leading(self) -> int:
        """Number of tokens before the words."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> padded ids (N, context)."""

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Number of tokens (N,) of each text, even if it exceeds the context."""

    def end(self, ids: Tensor) -> Tensor:
        """Position (N,) of the token that is pooled."""

    def words_end(self, ids: Tensor) -> Tensor:
        """Position (N,) of the first token after the words."""


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of a class list.

    Attributes:
        ids: (classes, context) token ids, padded.
        end: (classes,) position of the token that is pooled (end of text).
        context: (classes, n) positions of the learned vectors, n = 0 where there are none.
    """

    ids: Tensor
    end: Tensor
    context: Tensor


@dataclass(frozen=True)
class Template:
    """A text with `{}` for the class name and any number of `[n]` for n learned vectors.

    A template without `{}` is the same for every class. A subclass may write token ids differently.

    Attributes:
        text: the template.
        keep_underscores: write class names with their underscores, as some published code does.
    """

    text: str
    keep_underscores: bool = False

    @classmethod
    @renamed_arguments(raw="keep_underscores")
    def parse(cls, text: str, *, keep_underscores: bool = False) -> Template:
        """Check a template.

        Raises:
            DataError: there is more than one `{}`.
        """
        if text.count("{}") > 1:
            raise DataError(f"the template '{text}' has several '{{}}'; there is one class name to write.")
        return cls(text, keep_underscores)

    @property
    def learned(self) -> int:
        """Number of learned vectors in the template."""
        return sum(int(n) for n in _PLACEHOLDER.findall(self.text))

    def pieces(self, name: str) -> list[tuple[str, int]]:
        """(text before a group, its length) for each `[n]`, then (the whole text, 0)."""
        parts = _PLACEHOLDER.split(self.text)
        text, groups = parts[0].replace("{}", name), []
        for length, following in zip(parts[1::2], parts[2::2], strict=True):
            groups.append((text, int(length)))
            text += " ".join(["X"] * int(length)) + following.replace("{}", name)
        return [*groups, (text, 0)]

    def write(self, names: Sequence[str], text: Tokenizer) -> TokenizedTexts:
        """Tokenise the template for each class name.

        Raises:
            DataError: no names, an empty name, a text longer than the context of the tower, or a placeholder that is
                part of a word.
        """
        if not names:
            raise DataError("there are no classes to write prompts for.")
        written = [name if self.keep_underscores else readable(name) for name in names]
        if "{}" in self.text and not all(name.strip() for name in written):
            empty = next(i for i, name in enumerate(written) if not name.strip())
            raise DataError(f"class {empty} has an empty name; every class needs a name that can be read.")
        pieces = [self.pieces(name) for name in written]
        texts = [groups[-1][0] for groups in pieces]
        lengths = text.lengths(texts)
        if (lengths > text.context).any():
            worst = int(lengths.argmax())
            if self.text == "{}":  # a sentence as it is written
                raise DataError(
                    f"the text '{texts[worst][:60]}...' has {int(lengths[worst])} tokens, more than the {text.context} "
                    "that the text tower takes; shorten it."
                )
            raise DataError(
                f"the prompt for class '{written[worst][:60]}' has {int(lengths[worst])} tokens, more than the "
                f"{text.context} that the text tower takes; shorten the name or the template."
            )
        ids = text.tokenize(texts)
        context = [_positions(column, ids, text) for column in list(zip(*pieces, strict=True))[:-1]]
        nowhere = torch.zeros(len(names), 0, dtype=torch.long)
        return TokenizedTexts(ids, text.end(ids), torch.cat([nowhere, *context], dim=1))


def _positions(groups: Sequence[tuple[str, int]], ids: Tensor, text: Tokenizer) -> Tensor:
    """(classes, n) positions in `ids` of one placeholder group, counted in tokens of the text before it."""
    length = groups[0][1]
    start = text.words_end(text.tokenize([before.strip() for before, _ in groups]))
    until = text.tokenize([before + " ".join(["X"] * length) for before, _ in groups])
    stop = text.words_end(until)
    earlier = torch.arange(ids.shape[1]) < stop[:, None]
    if not (torch.equal(stop - start, torch.full_like(start, length)) and torch.equal(until * earlier, ids * earlier)):
        raise DataError(
            "each learned vector takes the place of one token 'X', and here there is none: write a space on both sides "
            "of `[n]`, or choose a backbone whose tokenizer writes 'X' as one token."
        )
    return start[:, None] + torch.arange(length)

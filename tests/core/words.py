"""A tokenizer of whole words, so that ids and positions can be written down by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PAD, START, END = 0, 1, 1000


class Words:
    """Every word and every full stop is one token; `vocabulary` is what it has met, in order, from id 2 on."""

    leading = 1

    def __init__(self, context: int = 12, unknown: int = 1):
        self.context = context
        self.unknown = unknown
        self.vocabulary: list[str] = []

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._padded(self._ids(text)[: self.context]) for text in texts])

    def lengths(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([len(self._ids(text)) for text in texts])

    def end(self, ids: Tensor) -> Tensor:
        return ids.argmax(dim=-1)

    def words_end(self, ids: Tensor) -> Tensor:
        return self.end(ids)

    def padding(self, ids: Tensor) -> None:
        """No mask for padding, as in CLIP."""

    def id(self, word: str) -> int:
        if word not in self.vocabulary:
            self.vocabulary.append(word)
        return 2 + self.vocabulary.index(word)

    def _ids(self, text: str) -> list[int]:
        words = text.replace(".", " . ").split()
        repeated = [self.id(word) for word in words for _ in range(self.unknown if word == "X" else 1)]
        return [START, *repeated, END]

    def _padded(self, ids: list[int]) -> Tensor:
        return torch.tensor(ids + [PAD] * (self.context - len(ids)))

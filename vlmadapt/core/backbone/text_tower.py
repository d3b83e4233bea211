"""The text tower of a backbone with its tokenizer: texts -> ids -> tokens -> blocks -> norm -> feature."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone.text_transformers import TextTransformer, text_transformer
from vlmadapt.core.backbone.tower import BaseTower, joint_width
from vlmadapt.core.side import TEXT
from vlmadapt.core.token_map import WORDS


class TextTower(BaseTower[TextTransformer]):
    """The text side of a backbone, with its tokenizer.

    Attributes:
        context: longest text, in tokens.
        pooled: spans of its own tokens that it pools together; empty if it pools one token.
    """

    _side = TEXT

    def __init__(self, model: Any, tokenizer: Any):
        # A native CLIP of open_clip keeps the parts of its text tower on the model itself.
        text = getattr(model, "text", model)
        self._model = model
        self._encode = partial(model.encode_text, normalize=False)
        self._tokenizer = tokenizer
        self._transformer = text_transformer(text)
        self.family = type(text).__name__
        # Where the texts of any other tower end is found as in one that pools the last token.
        self._pool, self._eos = "last", None
        contexts = [getattr(tokenizer, "context_length", None)]
        if self._transformer is None:
            self.joint = joint_width(model)
        else:
            self.blocks, self.family = self._transformer.blocks, self._transformer.family
            self.width, self.joint = self._transformer.width, self._transformer.joint
            self.causal = self._transformer.causal
            self._pool, self._eos = self._transformer.pool, self._transformer.eos
            self.averages = self._pool == "mean"
            self.pooled = (WORDS,) if self.averages else ()
            contexts.append(self._transformer.context)
        self.context = min((int(context) for context in contexts if context), default=0)

    @cached_property
    def leading(self) -> int:
        """Tokens before the words: 1 where every text begins with the same one (start of text), else 0."""
        cat, dog = self.tokenize(["cat", "dog"])[:, 0].tolist()
        return int(cat == dog)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> padded ids (N, context)."""
        return self._tokenizer(list(texts), context_length=self.context)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Number of tokens (N,) of each text, even if it exceeds the context."""
        # A text has at most one token per byte, plus start and end of text.
        longest = max(len(text.encode()) for text in texts) + 2
        return self.words_end(self._tokenizer(list(texts), context_length=max(longest, self.context))) + 1

    def end(self, ids: Tensor) -> Tensor:
        """Position (N,) of the token that is pooled; of the first of those that are averaged."""
        if self._pool == "argmax":
            return ids.argmax(dim=-1)
        if self._pool == "eos":
            return ids.eq(self._eos or 0).int().argmax(dim=-1)
        position = {"first": 0, "mean": 0, "last": ids.shape[1] - 1, "cls": ids.shape[1]}[self._pool]
        return torch.full((len(ids),), position)

    def words_end(self, ids: Tensor) -> Tensor:
        """Index (N,) of the first token after the words: end of text where there is one, else padding."""
        if self._pool in ("argmax", "eos"):
            return self.end(ids)
        mark, padding = self._after_words
        end = ids.shape[1] - ids.eq(padding).flip(1).int().cumprod(dim=1).sum(dim=1)
        last = ids.gather(1, (end - 1).clamp(min=0)[:, None])[:, 0]
        return end - (last.eq(mark) & (mark != padding)).int()

    @cached_property
    def _after_words(self) -> tuple[int, int]:
        """The id that ends a text, and the one that fills the context; a tokenizer may use one for both."""
        empty = self.tokenize([""])[0].tolist()
        return empty[self.leading], empty[-1]

    def padding(self, ids: Tensor) -> Tensor | None:
        """Which tokens (N, T) no other may attend to; None in a tower without a mask for padding."""
        return None if self._transformer is None else self._transformer.padding(ids)

    def encode(self, ids: Tensor) -> Tensor:
        """Ids (N, context) -> features (N, joint), by the model's own forward."""
        return self._encode(ids)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (N, T) -> tokens (N, T, width) as block 0 receives them, one more where the tower appends its CLS."""
        tokens, appended = self._opened.words(ids), self._opened.appended(len(ids))
        tokens = tokens if appended is None else torch.cat([tokens, appended], dim=1)
        return self._in_blocks(self.embed_extra(tokens, slice(0, tokens.shape[1])))

    def words(self, text: str) -> Tensor:
        """Token embeddings (n, width) of a text, without positions, start and end of text."""
        ids = self.tokenize([text])
        start = int(self.words_end(self.tokenize([""])))
        return self._words(ids[0, start : int(self.words_end(ids))])

    def embeddings(self, text: str) -> Tensor:
        """Token embeddings (context, width) of a text with its start, end and padding, without positions."""
        return self._words(self.tokenize([text])[0])

    def embed_extra(self, tokens: Tensor, positions: Tensor | slice) -> Tensor:
        """Embed words (..., n, width): with the positional embedding of their positions, after the first norm."""
        return self.first_norm(tokens + self._opened.positions(positions).to(tokens.dtype))

    def first_norm(self, tokens: Tensor) -> Tensor:
        """The norm of each token before block 0, which CLIP's text tower does not have."""
        return self._opened.first_norm(tokens)

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm."""
        return self._opened.norm(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """The frozen projection, (..., width) -> (..., joint)."""
        return self._opened.project(tokens)

    def pool(self, tokens: Tensor) -> Tensor:
        """The normed token (..., 1, width) that the tower pools -> its feature (..., joint)."""
        return self.project(tokens[..., 0, :])

    @property
    def end_token(self) -> Tensor:
        """Embedding (width,) of the end-of-text token, without position."""
        ids = self.tokenize([""])[0]
        return self._words(ids[int(self.words_end(ids[None]))])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self._model.parameters()).device

    def _words(self, ids: Tensor) -> Tensor:
        """Token embeddings of ids, to be trained."""
        return self._opened.words(ids.to(self.device)).detach().clone()

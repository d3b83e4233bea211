"""One interface for the text transformers of open_clip and `transformers`: how they embed, mask, pool and project.

words + positions -> first norm -> blocks -> norm of each token -> pooled token, or mean of all -> projection
"""

from __future__ import annotations

from typing import Any, Protocol

import open_clip.transformer
import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.backbone.blocks import views
from vlmadapt.core.backbone.projection import LinearProjection, linear_projection
from vlmadapt.core.backbone.transformers_text import TransformersText, wrapped_encoder


class TextTransformer(Protocol):
    """A transformer over the tokens of a text.

    Attributes:
        blocks: its blocks, seen through their parts.
        family: class of the tower.
        width: width of its tokens.
        joint: width of the joint space.
        causal: True if tokens attend only to earlier ones.
        context: longest text that it has positions for; 0 where these are relative and all lengths have them.
        pool: the token that it pools: the largest id (`argmax`), the first `eos`, `first`, `last`, `cls` for one that
            it appends itself, or `mean` for the mean of all that is no padding.
        eos: id of the token that ends a text, where it pools that.
    """

    blocks: tuple[BlockParts, ...]
    family: str
    width: int
    joint: int
    causal: bool
    context: int
    pool: str
    eos: int | None

    @property
    def linear(self) -> LinearProjection | None:
        """The projection where it is one linear map or none at all; else None."""

    def words(self, ids: Tensor) -> Tensor:
        """Ids (N, T) -> embeddings (N, T, width) without positions."""

    def positions(self, at: Tensor | slice) -> Tensor:
        """What is added to words at these positions, (..., width)."""

    def first_norm(self, tokens: Tensor) -> Tensor:
        """The norm of each token before block 0."""

    def norm(self, tokens: Tensor) -> Tensor:
        """The norm of each token after the last block."""

    def project(self, tokens: Tensor) -> Tensor:
        """The pooled token (..., width) -> feature (..., joint)."""

    def appended(self, texts: int) -> Tensor | None:
        """The tokens (N, 1, width) that the tower itself puts after the texts; None if it does not."""

    def padding(self, ids: Tensor) -> Tensor | None:
        """Which tokens (N, T) no other may attend to; None in a tower without a mask for padding."""


def text_transformer(text: Any) -> TextTransformer | None:
    """The text transformer of a dual encoder, or None where its kind or its blocks are not known."""
    if isinstance(text, TransformersText):
        return text
    if isinstance(text, HFTextEncoder):
        return wrapped_encoder(text)
    if isinstance(text, open_clip.CLIP | open_clip.transformer.TextTransformer):
        blocks = views(text.transformer.resblocks)
        return OpenClipText(text, blocks) if blocks else None
    return None


class OpenClipText:
    """open_clip's own text towers; a native CLIP keeps the parts of its text tower on the model itself."""

    def __init__(self, text: Any, blocks: tuple[BlockParts, ...]):
        self._text = text
        self._cls: Tensor | None = getattr(text, "cls_emb", None)
        self.blocks = blocks
        self.family = type(text).__name__
        self.width = int(text.token_embedding.weight.shape[1])
        assert self.linear is not None
        self.joint = int(self.linear.matrix.shape[1])
        self.causal = text.attn_mask is not None
        self.context = int(text.context_length)
        self.pool = "cls" if self._cls is not None else text_pool_type(text)
        self.eos: int | None = getattr(text, "text_eos_id", getattr(text, "eos_id", None))

    @property
    def linear(self) -> LinearProjection | None:
        projection = self._text.text_projection
        if isinstance(projection, Tensor):
            return LinearProjection(projection)
        return linear_projection(self._text.token_embedding.weight, *([] if projection is None else [projection]))

    def words(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self._text.token_embedding(ids)
        return embedded

    def positions(self, at: Tensor | slice) -> Tensor:
        places: Tensor = self._text.positional_embedding[at]
        return places

    def first_norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._text.ln_final(tokens)
        return normed

    def project(self, tokens: Tensor) -> Tensor:
        projection = self._text.text_projection
        if projection is None:
            return tokens
        return projection(tokens) if isinstance(projection, nn.Module) else tokens @ projection

    def appended(self, texts: int) -> Tensor | None:
        return None if self._cls is None else self._cls.expand(texts, 1, -1)

    def padding(self, ids: Tensor) -> Tensor | None:
        if not getattr(self._text, "use_pad_mask", False) and self._cls is None:
            return None
        padding = ids.eq(self._text.pad_id)
        if self._cls is None:
            return padding
        own = padding.new_zeros(len(ids), 1)
        # Released CoCa weights were trained with the mask one place late, which open_clip keeps.
        return torch.cat([padding, own] if self._text.correct_cls_mask else [own, padding], dim=1)


def text_pool_type(text: Any) -> str:
    """open_clip's name of how a text tower pools; a native CLIP has another attribute for it."""
    return str(text.text_pool_type if isinstance(text, open_clip.CLIP) else text.pool_type)

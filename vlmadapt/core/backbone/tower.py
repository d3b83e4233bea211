"""The image and the text tower of a backbone, with one small interface: embed -> blocks -> norm -> project.

A tower of an unsupported architecture (a ResNet, an unknown block class) has no `blocks`, but `encode` still computes
its features, so methods that do not work inside it run on it unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import open_clip.transformer
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.backbone.blocks import views
from vlmadapt.core.backbone.half_parts import HalfParts
from vlmadapt.core.backbone.image_transformers import ImageTransformer, image_transformer, timm_joint_width
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import BackboneError


class _Tower:
    """What both towers have in common.

    Attributes:
        blocks: transformer blocks, as views of their parts; empty if hooks cannot work inside the tower.
        width: width of the tokens, 0 if `blocks` is empty.
        joint: width of the joint image-text space.
        causal: True if tokens attend only to earlier ones.
        pooled: spans of its own tokens that it pools together; empty if it pools one token.
    """

    blocks: tuple[BlockParts, ...] = ()
    width: int = 0
    joint: int
    causal: bool = False
    pooled: tuple[str, ...] = ()
    family: str
    _held: torch.dtype | None = None

    def hold_blocks_in(self, dtype: torch.dtype) -> None:
        """Store the blocks in half precision and run them in it."""
        self.blocks = tuple(HalfParts(block, dtype) for block in self.blocks)
        self._held = dtype

    def _in_blocks(self, tokens: Tensor) -> Tensor:
        """Tokens in the precision that the blocks run in."""
        return tokens if self._held is None else tokens.to(self._held)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def norm_copies(self, layer: int) -> tuple[nn.Module, nn.Module]:
        """Trainable copies of the two norms of block `layer`, counted from 0; each maps (..., width).

        Raises:
            BackboneError: the block has no norms before attention and MLP.
        """
        if not all(any(True for _ in norm.parameters()) for norm in self.blocks[layer].norms):
            raise BackboneError(
                f"the blocks of this backbone's {self.family} have no norms before attention and MLP to train; choose "
                "one such as ViT-B-16:openai."
            )
        norm1, norm2 = (copy.deepcopy(norm).requires_grad_() for norm in self.blocks[layer].norms)
        return norm1, norm2


class ImageTower(_Tower):
    """The image side of an open_clip model.

    Attributes:
        size: height and width of the images in pixels.
        leading: number of tokens before the patches (CLS, registers).
        sequence_length: number of tokens of an image without injected ones, the leading ones included.
        pooled: spans of its own tokens that it pools together; empty if it pools its first token.
    """

    def __init__(self, model: Any):
        self._visual = model.visual
        self._encode = partial(model.encode_image, normalize=False)
        self.family = _family(self._visual)
        size = self._visual.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self._transformer = image_transformer(self._visual)
        if self._transformer is None:
            self.joint = _joint_width(model)
            # Faster for convolutional networks; no gain for a ViT's single patch convolution.
            self._visual.to(memory_format=torch.channels_last)
        else:
            self.blocks = self._transformer.blocks
            self.width, self.joint = self._transformer.width, self._transformer.joint
            self.leading, self.sequence_length = self._transformer.leading, self._transformer.length
            self.pooled = self._transformer.pooled

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> features (B, joint), by open_clip's own forward."""
        return self._encode(images)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> tokens (B, leading + patches, width) as block 0 receives them."""
        return self._in_blocks(self._opened.embed(images))

    def embed_extra(self, tokens: Tensor, positions: Tensor | slice) -> Tensor:
        """Embed appended tokens (..., width): the first norm, no position."""
        return self._opened.first_norm(tokens)

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm of each token; none where the tower norms what it has pooled."""
        return self._opened.norm(tokens)

    def pool(self, tokens: Tensor) -> Tensor:
        """Normed tokens (..., n, width) that the tower pools -> its feature (..., joint)."""
        return self._opened.pool(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (..., width) -> (..., joint): the projection, in towers that pool many tokens the pooling of each."""
        return self._opened.pool(tokens[..., None, :])

    @property
    def places(self) -> int:
        """Deprecated: `sequence_length`."""
        warn_deprecated("ImageTower.places", "ImageTower.sequence_length")
        return self.sequence_length

    @property
    def leading_token(self) -> Tensor:
        """Embedding (width,) of CLS, without position; without CLS the query that pools, for an average zero."""
        return self._opened.reader.detach().clone()

    @property
    def projection(self) -> Tensor:
        """The frozen projection as a matrix (width, joint).

        Raises:
            BackboneError: the tower does more than that to a token; `project` does all of it.
        """
        if self._opened.matrix is None:
            raise BackboneError(f"the image tower ({self.family}) has no projection matrix; use `project`.")
        return self._opened.matrix

    @property
    def _opened(self) -> ImageTransformer:
        if self._transformer is None:
            raise BackboneError(f"only the output of the image tower ({self.family}) can be used.")
        return self._transformer


def _family(visual: Any) -> str:
    """Class of an image tower; of timm's the class of the model, which open_clip wraps."""
    return type(getattr(visual, "trunk", visual)).__name__


def _joint_width(model: Any) -> int:
    """Width of the joint space, from the text projection if there is one, else from the image tower."""
    projection = getattr(getattr(model, "text", model), "text_projection", None)
    if isinstance(projection, torch.nn.Linear):
        return projection.out_features
    if projection is not None:
        return int(projection.shape[1])
    return timm_joint_width(model.visual) if isinstance(model.visual, TimmModel) else int(model.visual.output_dim)


def _project(x: Tensor, projection: Any) -> Tensor:
    """Apply a projection as open_clip stores it: a matrix, a linear layer or none."""
    if projection is None:
        return x
    return projection(x) if isinstance(projection, torch.nn.Module) else x @ projection


class TextTower(_Tower):
    """The text side of an open_clip model, with its tokenizer.

    Attributes:
        context: longest text, in tokens.
    """

    def __init__(self, model: Any, tokenizer: Any):
        # open_clip keeps the parts of its native text tower on the model itself, those of the others on `model.text`.
        self._text = text = getattr(model, "text", model)
        self._encode = partial(model.encode_text, normalize=False)
        self._tokenizer = tokenizer
        self._cls: Tensor | None = getattr(text, "cls_emb", None)
        self._pool: str = _text_pooling(text)
        self._eos: int | None = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        self.context = int(_context_length(text, model) or tokenizer.context_length)
        self.joint = _joint_width(model)
        self.family = type(text).__name__
        if _is_plain_text(text):
            self.blocks = views(text.transformer.resblocks) or ()
        if self.blocks:
            self.width = int(text.token_embedding.weight.shape[1])
            self.causal = text.attn_mask is not None

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
        """Position (N,) of the token that is pooled."""
        if self._pool == "argmax":
            return ids.argmax(dim=-1)
        if self._pool == "eos":
            return ids.eq(self._eos or 0).int().argmax(dim=-1)
        position = {"first": 0, "last": ids.shape[1] - 1, "cls": ids.shape[1]}[self._pool]
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
        masked = getattr(self._text, "use_pad_mask", False) or self._cls is not None
        if not masked:
            return None
        padding = ids.eq(self._text.pad_id)
        if self._cls is None:
            return padding
        own = padding.new_zeros(len(ids), 1)
        # Released CoCa weights were trained with the mask one place late, which open_clip keeps.
        return torch.cat([padding, own] if self._text.correct_cls_mask else [own, padding], dim=1)

    def encode(self, ids: Tensor) -> Tensor:
        """Ids (N, context) -> features (N, joint), by open_clip's own forward."""
        return self._encode(ids)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (N, T) -> tokens (N, T, width) as block 0 receives them, one more where the tower appends its CLS."""
        tokens = self._text.token_embedding(ids)
        if self._cls is not None:
            tokens = torch.cat([tokens, self._cls.expand(len(ids), 1, -1)], dim=1)
        return self._in_blocks(self.embed_extra(tokens, slice(0, tokens.shape[1])))

    def words(self, text: str) -> Tensor:
        """Token embeddings (n, width) of a text, without positions, start and end of text."""
        ids = self.tokenize([text])
        start = int(self.words_end(self.tokenize([""])))
        out: Tensor = self._text.token_embedding(ids[0, start : int(self.words_end(ids))].to(self.device))
        return out.detach().clone()

    def embed_extra(self, tokens: Tensor, positions: Tensor | slice) -> Tensor:
        """Tokens (..., n, width) with the positional embedding of their positions."""
        return tokens + self._text.positional_embedding[positions].to(tokens.dtype)

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm."""
        return self._text.ln_final(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """CLIP's frozen projection, (..., width) -> (..., joint)."""
        return _project(tokens, self._text.text_projection)

    def pool(self, tokens: Tensor) -> Tensor:
        """The normed token (..., 1, width) that the tower pools -> its feature (..., joint)."""
        return self.project(tokens[..., 0, :])

    @property
    def projection(self) -> Tensor:
        """CLIP's frozen projection as a matrix (width, joint).

        Raises:
            BackboneError: it has a bias, or there is none.
        """
        projection: Any = self._text.text_projection
        if isinstance(projection, nn.Linear) and getattr(projection, "bias", None) is None:
            projection = projection.weight.T
        if not isinstance(projection, Tensor):
            raise BackboneError("this backbone's text projection is no matrix; choose one such as ViT-B-16:openai.")
        return projection

    @property
    def end_token(self) -> Tensor:
        """Embedding (width,) of the end-of-text token, without position."""
        ids = self.tokenize([""])[0]
        out: Tensor = self._text.token_embedding(ids[int(self.words_end(ids[None]))].to(self.device))
        return out.detach().clone()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self._text.parameters()).device


def _is_plain_text(text: Any) -> bool:
    return isinstance(text, open_clip.CLIP | open_clip.transformer.TextTransformer)


def _text_pooling(text: Any) -> str:
    """Which token a text tower pools: open_clip's names, and `cls` for one that the tower appends itself."""
    if getattr(text, "cls_emb", None) is not None:
        return "cls"
    # A tower of transformers says nothing; where its texts end is found as in one that pools the last token.
    own = "argmax" if isinstance(text, open_clip.CLIP) else "last"
    return str(getattr(text, "text_pool_type", getattr(text, "pool_type", own)))


def _context_length(text: Any, model: Any) -> int:
    """The longest text a tower takes, 0 where it does not say."""
    return getattr(text, "context_length", 0) or getattr(model, "context_length", 0) or 0

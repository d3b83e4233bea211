"""The image and the text tower of a backbone, with one small interface: embed -> blocks -> norm -> project.

A tower of an unsupported architecture (a ResNet, an unknown block class) has no `blocks`, but `encode` still computes
its features, so methods that do not work inside it run on it unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import open_clip.transformer
import torch
from torch import Tensor, nn

from vlmadapt.core.backbone.blocks import BlockParts, views
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import BackboneError


class _Tower:
    """What both towers have in common.

    Attributes:
        blocks: transformer blocks, as views of their parts; empty if hooks cannot work inside the tower.
        width: width of the tokens, 0 if `blocks` is empty.
        joint: width of the joint image-text space.
        causal: True if tokens attend only to earlier ones.
    """

    blocks: tuple[BlockParts, ...] = ()
    width: int = 0
    joint: int
    causal: bool = False
    family: str

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def norm_copies(self, layer: int) -> tuple[nn.Module, nn.Module]:
        """Trainable copies of the two norms of block `layer`, counted from 0; each maps (..., width)."""
        norm1, norm2 = (copy.deepcopy(norm).requires_grad_() for norm in self.blocks[layer].norms)
        return norm1, norm2


def _project(x: Tensor, projection: Any) -> Tensor:
    """Apply a projection as open_clip stores it: a matrix, a linear layer or none."""
    if projection is None:
        return x
    return projection(x) if isinstance(projection, torch.nn.Module) else x @ projection


class ImageTower(_Tower):
    """The image side of an open_clip model.

    Attributes:
        size: height and width of the images in pixels.
        sequence_length: number of tokens of an image without injected ones, CLS included.
    """

    def __init__(self, model: Any):
        self._visual = model.visual
        self._encode = model.encode_image
        self.family = type(self._visual).__name__
        size = self._visual.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        if _is_plain_vit(self._visual):
            self.blocks = views(self._visual.transformer.resblocks) or ()
        if self.blocks:
            self.width, self.joint = self._visual.proj.shape
            self.sequence_length = len(self._visual.positional_embedding)
        else:
            self.joint = _joint_width(model)
            # Faster for convolutional networks; no gain for a ViT's single patch convolution.
            self._visual.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> features (B, joint), by open_clip's own forward."""
        return self._encode(images)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> tokens (B, 1 + patches, width) as block 0 receives them."""
        patches = self._visual.conv1(images).flatten(2).transpose(1, 2)
        leading = self._visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([leading, patches], dim=1) + self._visual.positional_embedding.to(patches.dtype)
        return self._visual.ln_pre(tokens)

    def embed_extra(self, tokens: Tensor, positions: Tensor | slice) -> Tensor:
        """Embed appended tokens (..., width): the first norm, no position."""
        return self._visual.ln_pre(tokens)

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm."""
        return self._visual.ln_post(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """CLIP's frozen projection, (..., width) -> (..., joint)."""
        return _project(tokens, self._visual.proj)

    @property
    def places(self) -> int:
        """Deprecated: `sequence_length`."""
        warn_deprecated("ImageTower.places", "ImageTower.sequence_length")
        return self.sequence_length

    @property
    def leading_token(self) -> Tensor:
        """Embedding (width,) of CLS, without position."""
        out: Tensor = self._visual.class_embedding
        return out.detach().clone()

    @property
    def projection(self) -> Tensor:
        """CLIP's frozen projection as a matrix (width, joint)."""
        return self._visual.proj


def _is_plain_vit(visual: Any) -> bool:
    return (
        isinstance(visual, open_clip.transformer.VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and visual.proj is not None
    )


def _joint_width(model: Any) -> int:
    """Width of the joint space, from the text projection if there is one, else from the image tower."""
    projection = getattr(getattr(model, "text", model), "text_projection", None)
    if isinstance(projection, torch.nn.Linear):
        return projection.out_features
    if projection is not None:
        return int(projection.shape[1])
    return int(getattr(model.visual, "output_dim", 0))


class TextTower(_Tower):
    """The text side of an open_clip model, with its tokenizer.

    Attributes:
        context: longest text, in tokens.
    """

    def __init__(self, model: Any, tokenizer: Any):
        # open_clip keeps the parts of its native text tower on the model itself, those of the others on `model.text`.
        self._text = text = getattr(model, "text", model)
        self._encode = model.encode_text
        self._tokenizer = tokenizer
        self._pool: str = getattr(text, "text_pool_type", getattr(text, "pool_type", "argmax"))
        self._eos: int | None = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        self.context = int(getattr(model, "context_length", 0) or tokenizer.context_length)
        self.joint = _joint_width(model)
        self.family = type(text).__name__
        if _is_plain_text(text):
            self.blocks = views(text.transformer.resblocks) or ()
        if self.blocks:
            self.width = int(text.token_embedding.weight.shape[1])
            self.causal = text.attn_mask is not None

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> padded ids (N, context)."""
        return self._tokenizer(list(texts), context_length=self.context)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Number of tokens (N,) of each text, even if it exceeds the context."""
        if self._pool not in ("argmax", "eos"):
            return torch.full((len(texts),), self.context)
        # A text has at most one token per byte, plus start and end of text.
        longest = max(len(text.encode()) for text in texts) + 2
        return self.end(self._tokenizer(list(texts), context_length=max(longest, self.context))) + 1

    def end(self, ids: Tensor) -> Tensor:
        """Position (N,) of the token that is pooled."""
        if self._pool == "argmax":
            return ids.argmax(dim=-1)
        if self._pool == "eos":
            return ids.eq(self._eos or 0).int().argmax(dim=-1)
        return torch.full((len(ids),), 0 if self._pool == "first" else ids.shape[1] - 1)

    def encode(self, ids: Tensor) -> Tensor:
        """Ids (N, context) -> features (N, joint), by open_clip's own forward."""
        return self._encode(ids)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (N, T) -> tokens (N, T, width) as block 0 receives them."""
        tokens = self._text.token_embedding(ids)
        return self.embed_extra(tokens, slice(0, ids.shape[1]))

    def words(self, text: str) -> Tensor:
        """Token embeddings (n, width) of a text, without positions, start and end of text."""
        ids = self.tokenize([text])
        start = int(self.end(self.tokenize([""])))
        out: Tensor = self._text.token_embedding(ids[0, start : int(self.end(ids))].to(self.device))
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
        out: Tensor = self._text.token_embedding(ids[int(self.end(ids[None]))].to(self.device))
        return out.detach().clone()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._text.token_embedding.weight.device


def _is_plain_text(text: Any) -> bool:
    native = isinstance(text, open_clip.CLIP)
    custom = isinstance(text, open_clip.transformer.TextTransformer)
    return native or (custom and text.cls_emb is None and not text.use_pad_mask)

"""The image and the text tower of a backbone, with one small interface: embed -> blocks -> norm -> project.

A tower of an unsupported architecture (a ResNet, an unknown block class) has no `blocks`, but `encode` still computes
its features, so methods that do not work inside it run on it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, Generic, TypeVar

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.backbone.half_parts import HalfParts
from vlmadapt.core.backbone.image_transformers import ImageTransformer, image_transformer, timm_joint_width
from vlmadapt.core.backbone.projection import LinearProjection
from vlmadapt.core.backbone.text_transformers import TextTransformer, text_transformer
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.core.token_map import WORDS
from vlmadapt.core.trained_copy import trained_copy_of
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import BackboneError

Transformer = TypeVar("Transformer", ImageTransformer, TextTransformer)

FEATURE_MAPS = frozenset({"ModifiedResNet", "ConvNeXt", "FastVit", "SwinTransformer"})
"""Families of image towers that work on maps, convolved or in windows: no row of tokens goes from block to block."""


class _Tower(Generic[Transformer]):
    """What both towers have in common.

    Attributes:
        blocks: transformer blocks, as views of their parts; empty if hooks cannot work inside the tower.
        width: width of the tokens, 0 if `blocks` is empty.
        joint: width of the joint image-text space.
        causal: True if tokens attend only to earlier ones.
        pooled: spans of its own tokens that it pools together; empty if it pools one token.
        averages: True in a text tower that pools the mean of its words, each after the final norm.
    """

    blocks: tuple[BlockParts, ...] = ()
    width: int = 0
    joint: int
    causal: bool = False
    pooled: tuple[str, ...] = ()
    averages: bool = False
    family: str
    _held: torch.dtype | None = None
    _side: ClassVar[Side]
    _transformer: Transformer | None

    @property
    def on_feature_maps(self) -> bool:
        """Whether the tower has no tokens that a method could work on, but feature maps."""
        return self.family in FEATURE_MAPS

    def hold_blocks_in(self, dtype: torch.dtype) -> None:
        """Store the blocks in half precision and run them in it.

        Raises:
            BackboneError: their activations may leave the range of float16.
        """
        if dtype is torch.float16 and not all(block.in_float16 for block in self.blocks):
            raise BackboneError(
                f"activations of this backbone's {self.family} may leave the range of float16; run it in bf16 or fp32 "
                "(`--train.precision bf16`, after training `--precision bf16`)."
            )
        self.blocks = tuple(HalfParts(block, dtype) for block in self.blocks)
        self._held = dtype

    def _in_blocks(self, tokens: Tensor) -> Tensor:
        """Tokens in the precision that the blocks run in."""
        return tokens if self._held is None else tokens.to(self._held)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def norm_copies(self, layer: int, decay_to_zero: bool = False) -> tuple[nn.Module, nn.Module]:
        """Trained copies of the two norms of block `layer`, counted from 0; each maps (..., width).

        Their parameters are differences from the frozen norms.

        Args:
            layer: the block.
            decay_to_zero: as in `TrainedCopy`.

        Raises:
            BackboneError: the block has no norms before attention and MLP.
        """
        if not all(any(True for _ in norm.parameters()) for norm in self.blocks[layer].norms):
            raise BackboneError(
                f"the blocks of this backbone's {self.family} have no norms before attention and MLP to train; choose "
                "one such as ViT-B-16:openai."
            )
        # Read from the current blocks: others take their place in half precision.
        norm1 = trained_copy_of(lambda: self.blocks[layer].norms[0], decay_to_zero)
        norm2 = trained_copy_of(lambda: self.blocks[layer].norms[1], decay_to_zero)
        return norm1, norm2

    def hidden_width(self, layer: int) -> int:
        """Width of the hidden layer in the MLP of block `layer`, counted from 0.

        Raises:
            BackboneError: there is no such block, or its MLP has no plain hidden layer.
        """
        if layer >= self.depth:
            raise BackboneError(
                f"block {layer + 1} (counted from 1) is used, but this backbone's {self.family} has {self.depth}."
            )
        maps = self.blocks[layer].mlp_maps()
        if maps is None:
            raise BackboneError(
                f"the MLPs of this backbone's {self.family} are gated or of another kind than linear map, activation, "
                "linear map, and the method works inside them; choose a backbone such as ViT-B-16:openai."
            )
        return maps.width

    @property
    def projection(self) -> Tensor:
        """The frozen projection as a matrix (width, joint).

        Raises:
            BackboneError: the projection is more than one linear map; `project` does all of it.
        """
        return self._linear.matrix

    @property
    def projection_bias(self) -> Tensor | None:
        """What the frozen projection adds after its matrix, (joint,); None where it adds nothing.

        Raises:
            BackboneError: as for `projection`.
        """
        return self._linear.bias

    @property
    def _linear(self) -> LinearProjection:
        projection = self._opened.linear
        if projection is None:
            raise BackboneError(
                f"the {self._side} tower of this backbone ({self.family}) ends in no projection matrix; choose a "
                "backbone with one such as ViT-B-16:openai."
            )
        return projection

    @property
    def _opened(self) -> Transformer:
        """The transformer inside.

        Raises:
            BackboneError: the tower is of an architecture whose inside cannot be used.
        """
        if self._transformer is None:
            raise BackboneError(f"only the output of the {self._side} tower ({self.family}) can be used.")
        return self._transformer


class ImageTower(_Tower[ImageTransformer]):
    """The image side of an open_clip model.

    Attributes:
        size: height and width of the images in pixels.
        leading: number of tokens before the patches (CLS, registers).
        sequence_length: number of tokens of an image without injected ones, the leading ones included.
        pooled: spans of its own tokens that it pools together; empty if it pools its first token.
    """

    _side = IMAGE

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

    def first_norm(self, tokens: Tensor) -> Tensor:
        """The norm of each token (..., width) before block 0, where the tower has one."""
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
    def grid(self) -> tuple[int, int]:
        """Number of rows and of columns of patches.

        Raises:
            BackboneError: the patches are on no grid of squares.
        """
        patches, (height, width) = self.sequence_length - self.leading, self.size
        rows = round((patches * height / width) ** 0.5)
        if rows * (patches // rows) != patches or rows * width != (patches // rows) * height:
            raise BackboneError(
                f"the {patches} patches of this backbone's {self.family} are on no grid of squares, on which the "
                "method works; choose a backbone such as ViT-B-16:openai."
            )
        return rows, patches // rows

    @property
    def places(self) -> int:
        """Deprecated: `sequence_length`."""
        warn_deprecated("ImageTower.places", "ImageTower.sequence_length")
        return self.sequence_length

    @property
    def leading_token(self) -> Tensor:
        """Embedding (width,) of CLS, without position; without CLS the query that pools, for an average zero."""
        return self._opened.reader.detach().clone()


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


class TextTower(_Tower[TextTransformer]):
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
            self.joint = _joint_width(model)
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

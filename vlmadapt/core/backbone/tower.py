"""What the image and the text tower of a backbone have in common.

Both have one small interface: embed -> blocks -> norm -> project. A tower of an unsupported architecture (a ResNet, an
unknown block class) has no `blocks`, but `encode` still computes its features, so methods that do not work inside it
run on it unchanged.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.backbone.half_parts import HalfParts
from vlmadapt.core.backbone.image_transformers import ImageTransformer, timm_joint_width
from vlmadapt.core.backbone.projection import LinearProjection
from vlmadapt.core.backbone.text_transformers import TextTransformer
from vlmadapt.core.side import Side
from vlmadapt.core.trained_copy import trained_copy_of
from vlmadapt.errors import BackboneError

Transformer = TypeVar("Transformer", ImageTransformer, TextTransformer)

FEATURE_MAPS = frozenset({"ModifiedResNet", "ConvNeXt", "FastVit", "SwinTransformer"})
"""Families of image towers that work on maps, convolved or in windows: no row of tokens goes from block to block."""


class BaseTower(Generic[Transformer]):
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


def joint_width(model: Any) -> int:
    """Width of the joint space, from the text projection if there is one, else from the image tower."""
    projection = getattr(getattr(model, "text", model), "text_projection", None)
    if isinstance(projection, torch.nn.Linear):
        return projection.out_features
    if projection is not None:
        return int(projection.shape[1])
    return timm_joint_width(model.visual) if isinstance(model.visual, TimmModel) else int(model.visual.output_dim)

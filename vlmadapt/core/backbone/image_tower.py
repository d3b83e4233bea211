"""The image tower of a backbone: images -> tokens -> blocks -> norm -> feature."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone.image_transformers import ImageTransformer, image_transformer
from vlmadapt.core.backbone.tower import BaseTower, joint_width
from vlmadapt.core.side import IMAGE
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import BackboneError


class ImageTower(BaseTower[ImageTransformer]):
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
            self.joint = joint_width(model)
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

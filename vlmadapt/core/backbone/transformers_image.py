"""Image transformers of the package `transformers`: CLIP's with CLS, SigLIP's with a latent query, also NaFlex."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone.blocks import views
from vlmadapt.core.backbone.projection import LinearProjection, joint_width, linear_projection
from vlmadapt.core.token_map import PATCHES


class TransformersImage(ABC):
    """What both have in common; `ImageTransformer` says what each part does.

    Args:
        trunk: the transformer.
        projection: what maps what it pools to the joint space.
        preprocess: the images that it was trained on, as open_clip describes them.

    Attributes:
        trunk: the transformer.
        image_size: height and width of the images in pixels.
        preprocess_cfg: as given.
    """

    leading = 0
    pooled: tuple[str, ...] = (PATCHES,)

    def __init__(self, trunk: Any, projection: nn.Module, preprocess: dict[str, Any]):
        self.trunk = trunk
        self.preprocess_cfg = preprocess
        self._embeddings = trunk.embeddings
        self._projection = projection
        self.blocks = views(trunk.encoder.layers) or ()
        self.length, self.image_size = self._sizes()
        self.width = int(self._embeddings.embed_dim)
        self.joint = joint_width(self.width, projection)

    @property
    @abstractmethod
    def reader(self) -> Tensor: ...

    @property
    @abstractmethod
    def linear(self) -> LinearProjection | None: ...

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor: ...

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """What the model's own forward is given for images (B, 3, H, W)."""
        return {"pixel_values": images}

    def _sizes(self) -> tuple[int, int]:
        """Number of tokens, and height and width of the images."""
        return int(self._embeddings.num_positions), int(self._embeddings.image_size)

    def embed(self, images: Tensor) -> Tensor:
        return self.first_norm(self._embeddings(images))

    def first_norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self.trunk.post_layernorm(tokens)
        return normed


class ClipImage(TransformersImage):
    """CLIP's, also in AltCLIP and Chinese-CLIP: pools CLS."""

    leading = 1
    pooled = ()

    @property
    def reader(self) -> Tensor:
        embedding: Tensor = self._embeddings.class_embedding
        return embedding

    @property
    def linear(self) -> LinearProjection | None:
        return linear_projection(self.reader, self._projection)

    def first_norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self.trunk.pre_layrnorm(tokens)
        return normed

    def pool(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self._projection(tokens[..., 0, :])
        return projected


class SiglipImage(TransformersImage):
    """SigLIP's: pools all patches with a latent query, and has no projection."""

    linear = None

    @property
    def reader(self) -> Tensor:
        probe: Tensor = self.trunk.head.probe[0, 0]
        return probe

    def pool(self, tokens: Tensor) -> Tensor:
        pooled: Tensor = self.trunk.head(tokens.flatten(0, -3)).unflatten(0, tokens.shape[:-2])
        return pooled


class NaflexImage(SiglipImage):
    """SigLIP 2's for images of any shape (NaFlex), here of square images with a patch for each of its positions.

    Its own processor gives such patches for square images; then it resizes no positions and masks no patches.
    """

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        patches, side = self._patches(images), self.image_size // self._embeddings.patch_size
        mask = torch.ones(patches.shape[:2], dtype=torch.long, device=images.device)
        shapes = torch.full((len(images), 2), side, device=images.device)
        return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}

    def embed(self, images: Tensor) -> Tensor:
        embedded: Tensor = self._embeddings.patch_embedding(self._patches(images))
        return embedded + self._embeddings.position_embedding.weight

    def _patches(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> the pixels of each patch, (B, patches, patch height * patch width * 3)."""
        size = self._embeddings.patch_size
        cut = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (B, 3, rows, height, columns, width)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def _sizes(self) -> tuple[int, int]:
        side = int(self._embeddings.position_embedding_size)
        return side * side, side * int(self._embeddings.patch_size)

"""Image transformers of the package `transformers`: CLIP's with CLS and SigLIP's with a latent query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

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
        self.length = int(self._embeddings.num_positions)
        self.width = int(self._embeddings.embed_dim)
        self.joint = joint_width(self.width, projection)
        self.image_size = int(self._embeddings.image_size)

    @property
    @abstractmethod
    def reader(self) -> Tensor: ...

    @property
    @abstractmethod
    def linear(self) -> LinearProjection | None: ...

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor: ...

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

"""One interface for the image transformers of open_clip, timm and `transformers`: how they embed and how they pool.

    embed -> blocks -> norm of each token -> pooling of the tower's own tokens -> projection

A tower that pools one token (CLS) and one that pools many (their mean, or attention from a latent query) differ in
`pooled` and `pool` alone. A token that is read by itself is pooled by itself: `pool` of one token is its projection.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import open_clip.transformer
import torch
from open_clip.timm_model import TimmModel
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts
from vlmadapt.core.backbone.blocks import views
from vlmadapt.core.backbone.patches import embed_patches, embed_timm_patches
from vlmadapt.core.backbone.projection import LinearProjection, joint_width, linear_projection
from vlmadapt.core.backbone.timm_blocks import RelativeParts, TimmAttentionParts
from vlmadapt.core.backbone.transformers_image import TransformersImage
from vlmadapt.core.token_map import LEADING, PATCHES


class ImageTransformer(Protocol):
    """A transformer over patches.

    Attributes:
        blocks: its blocks, seen through their parts.
        width: width of its tokens.
        joint: width of the joint space.
        leading: tokens before the patches (CLS, registers).
        length: all its tokens.
        pooled: spans of tokens that it pools together; empty where it pools the first token.
    """

    blocks: tuple[BlockParts, ...]
    width: int
    joint: int
    leading: int
    length: int
    pooled: tuple[str, ...]

    @property
    def reader(self) -> Tensor:
        """The embedding (width,) that gathers the image: CLS without position, else the query that pools, else zero."""

    @property
    def linear(self) -> LinearProjection | None:
        """The projection, where that is all that pooling does to one token and it is one linear map; else None."""

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> tokens (B, length, width) as block 0 receives them."""

    def first_norm(self, tokens: Tensor) -> Tensor:
        """The norm before block 0."""

    def norm(self, tokens: Tensor) -> Tensor:
        """The norm of each token after the last block; none where the norm follows the pooling."""

    def pool(self, tokens: Tensor) -> Tensor:
        """Normed tokens (..., n, width) -> feature (..., joint): pooling and projection."""


def image_transformer(visual: Any) -> ImageTransformer | None:
    """The transformer of an open_clip image tower, or None where its kind or its blocks are not known."""
    if isinstance(visual, TransformersImage):
        return visual
    if isinstance(visual, open_clip.transformer.VisionTransformer) and visual.proj is not None:
        blocks = views(visual.transformer.resblocks)
        pools = visual.pool_type in ("tok", "avg") and getattr(visual, "attn_pool_contrastive", None) is None
        return OpenClipTransformer(visual, blocks) if blocks and pools else None
    kind = TIMM.get(type(visual.trunk)) if isinstance(visual, TimmModel) else None
    if kind is not None and _timm_pools(visual):
        blocks = views(visual.trunk.blocks)
        return kind(visual, blocks) if blocks else None
    return None


class OpenClipTransformer:
    """open_clip's `VisionTransformer`: CLS, average or attentional pooling, with or without its first norm."""

    def __init__(self, visual: Any, blocks: tuple[BlockParts, ...]):
        self._visual = visual
        self.blocks = blocks
        self.length, self.width = visual.positional_embedding.shape
        self.joint = int(visual.proj.shape[1])
        self.leading = 1
        self.pooled: tuple[str, ...] = () if visual.pool_type == "tok" else (PATCHES,)
        if visual.attn_pool is not None:
            self.pooled = (LEADING, PATCHES)
        self._norm_follows_pooling = visual.attn_pool is not None or bool(self.pooled and visual.final_ln_after_pool)

    @property
    def reader(self) -> Tensor:
        embedding: Tensor = self._visual.class_embedding
        return embedding

    @property
    def linear(self) -> LinearProjection | None:
        return None if self._norm_follows_pooling else LinearProjection(self._visual.proj)

    def embed(self, images: Tensor) -> Tensor:
        patches = embed_patches(self._visual.conv1, images)
        leading = self._visual.class_embedding.to(patches.dtype).repeat(patches.shape[0], 1, 1)
        tokens = torch.cat([leading, patches], dim=1) + self._visual.positional_embedding.to(patches.dtype)
        return self.first_norm(tokens)

    def first_norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._visual.ln_pre(tokens)
        return normed

    def norm(self, tokens: Tensor) -> Tensor:
        return tokens if self._norm_follows_pooling else self._visual.ln_post(tokens)

    def pool(self, tokens: Tensor) -> Tensor:
        if self._visual.attn_pool is not None:
            pooled = self._query(tokens)
        else:
            pooled = average(tokens)
            pooled = self._visual.ln_post(pooled) if self._norm_follows_pooling else pooled
        return pooled @ self._visual.proj

    def _query(self, tokens: Tensor) -> Tensor:
        """Attentional pooling: each query's answer is normed, then the first is taken or the others are averaged."""
        answers = self._visual.attn_pool(tokens.flatten(0, -3)).unflatten(0, tokens.shape[:-2])
        answers = self._visual.ln_post(answers)
        return answers[..., 0, :] if self._visual.pool_type == "tok" else answers[..., 1:, :].mean(-2)


class TimmTransformer:
    """timm's `VisionTransformer` and `Eva` in open_clip's `TimmModel`: CLS, average or latent-query pooling."""

    def __init__(self, visual: Any, blocks: tuple[BlockParts, ...]):
        self._visual = visual
        self._trunk = trunk = visual.trunk
        self._attention = getattr(trunk, "attn_pool", None)  # pools with a latent query
        self.blocks = blocks
        self.width = int(trunk.embed_dim)
        self.joint = timm_joint_width(visual)
        self.leading = int(trunk.num_prefix_tokens)
        self.length = self._patches() + self.leading
        self.pooled = self._pooled_spans()
        if getattr(trunk, "rope", None) is not None:
            for block in blocks:
                assert isinstance(block, TimmAttentionParts)
                block.set_rotary(partial(rotary_positions, trunk))

    @property
    def reader(self) -> Tensor:
        if (token := self._cls_token()) is not None:
            return token[0, 0]
        return next(self._trunk.parameters()).new_zeros(self.width) if self._query is None else self._query

    @property
    def linear(self) -> LinearProjection | None:
        if self._attention is not None or not isinstance(self._trunk.fc_norm, nn.Identity):
            return None
        like = next(self._trunk.parameters()).new_zeros(self.width)
        return linear_projection(like, *_projections(self._visual))

    def embed(self, images: Tensor) -> Tensor:
        embedded = self._trunk._pos_embed(embed_timm_patches(self._trunk.patch_embed, images))
        tokens = embedded[0] if isinstance(embedded, tuple) else embedded  # with the rotary positions, in Eva
        return self.first_norm(tokens)

    def first_norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._trunk.norm_pre(tokens)
        return normed

    def norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._trunk.norm(tokens)
        return normed

    def pool(self, tokens: Tensor) -> Tensor:
        if self._attention is None:
            pooled = average(tokens)
        else:
            pooled = self._attention(tokens.flatten(0, -3)).unflatten(0, tokens.shape[:-2])
        projected: Tensor = self._visual.head(self._trunk.head(self._trunk.fc_norm(pooled)))
        return projected

    def _cls_token(self) -> Tensor | None:
        """The embedding (1, 1, width) of CLS."""
        token: Tensor | None = self._trunk.cls_token
        return token

    def _patches(self) -> int:
        """Number of patches."""
        return int(self._trunk.patch_embed.num_patches)

    @property
    def _query(self) -> Tensor | None:
        """The latent query (width,) that pools."""
        return None if self._attention is None else self._attention.latent[0, 0]

    def _pooled_spans(self) -> tuple[str, ...]:
        if self._attention is None and self._trunk.global_pool == "token":
            return ()
        every = getattr(self._trunk, "pool_include_prefix", False)
        if isinstance(self._trunk, Eva):
            every = self._attention is not None
        return (LEADING, PATCHES) if every and self.leading else (PATCHES,)


class RelativeTransformer(TimmTransformer):
    """timm's `VisionTransformerRelPos`: no positions but those that attention adds to its scores, and no first norm."""

    def __init__(self, visual: Any, blocks: tuple[BlockParts, ...]):
        super().__init__(visual, blocks)
        if self._trunk.shared_rel_pos is not None:
            for block in blocks:
                assert isinstance(block, RelativeParts)
                block.set_shared_positions(self._trunk.shared_rel_pos)

    def embed(self, images: Tensor) -> Tensor:
        patches = embed_timm_patches(self._trunk.patch_embed, images)
        if self._trunk.cls_token is None:
            return patches
        return torch.cat([self._trunk.cls_token.to(patches.dtype).expand(len(patches), -1, -1), patches], dim=1)

    def first_norm(self, tokens: Tensor) -> Tensor:
        return tokens


class NaflexTransformer(TimmTransformer):
    """timm's `NaFlexVit`, given images of one size: it then resizes its positions to their patches and masks none."""

    def embed(self, images: Tensor) -> Tensor:
        tokens, _ = self._trunk.embeds(images)
        return self.first_norm(tokens)

    def _cls_token(self) -> Tensor | None:
        token: Tensor | None = self._trunk.embeds.cls_token
        return token

    def _patches(self) -> int:
        rows, columns = self._trunk.embeds.dynamic_feat_size(self._visual.image_size)
        return int(rows * columns)


TIMM: dict[type[nn.Module], type[TimmTransformer]] = {
    VisionTransformer: TimmTransformer,
    Eva: TimmTransformer,
    VisionTransformerRelPos: RelativeTransformer,
    NaFlexVit: NaflexTransformer,
}
"""By the class of the trunk."""


def average(tokens: Tensor) -> Tensor:
    """Tokens (..., n, width) -> their mean (..., width)."""
    return tokens[..., 0, :] if tokens.shape[-2] == 1 else tokens.mean(-2)


def rotary_positions(trunk: Any) -> Tensor:
    """Sine and cosine (patches, 2 * head width) of each patch's position in a timm model."""
    shape = {"shape": trunk.patch_embed.grid_size} if trunk.dynamic_img_size else {}
    positions: Tensor = trunk.rope.get_embed(**shape)
    return positions


def timm_joint_width(visual: TimmModel) -> int:
    """Width of the joint space: what the last linear map of a timm tower gives, else its own width."""
    return joint_width(int(visual.trunk.num_features), *_projections(visual))


def _projections(visual: Any) -> tuple[nn.Module, nn.Module]:
    """What follows the pooling, timm's and open_clip's."""
    return visual.trunk.get_classifier(), visual.head


def _timm_pools(visual: TimmModel) -> bool:
    """Whether a timm tower pools in one of the ways above, and has no positions of another kind."""
    trunk: Any = visual.trunk
    if isinstance(trunk, NaFlexVit) and trunk.rope is not None:
        return False
    latent = getattr(trunk, "attn_pool", None)
    pools = trunk.global_pool in ("token", "avg") if latent is None else type(latent) is AttentionPoolLatent
    return pools and getattr(latent, "pos_embed", None) is None and not getattr(trunk, "rope_mixed", False)

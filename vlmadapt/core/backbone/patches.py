"""Patch embedding: on a GPU one matrix product instead of a convolution, which is slow where patches do not overlap."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn


def embed_patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) -> patches (B, patches, width), row by row."""
    if images.is_cuda and _side_by_side(conv, images):
        return linear_patches(conv, images)
    patches: Tensor = conv(images).flatten(2).transpose(1, 2)
    return patches


def embed_timm_patches(embedding: Any, images: Tensor) -> Tensor:
    """The same with the patch embedding of a timm model, its norm included."""
    plain = type(embedding) is PatchEmbed and embedding.flatten and not embedding.dynamic_img_pad
    embedded: Tensor = embedding.norm(embed_patches(embedding.proj, images)) if plain else embedding(images)
    return embedded


def linear_patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """The patches of a convolution as wide as its stride, each as a vector times one matrix."""
    height, width = conv.kernel_size
    cut = images.to(conv.weight.dtype).unflatten(2, (-1, height)).unflatten(4, (-1, width))  # (B, 3, h, H/h, w, W/w)
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return F.linear(patches, conv.weight.flatten(1), conv.bias)


def _side_by_side(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether the patches of a convolution cover images without overlap, room between them or a border."""
    whole = all(pixels % step == 0 for pixels, step in zip(images.shape[2:], conv.stride, strict=True))
    apart = conv.kernel_size == conv.stride and set(conv.dilation) == {1} and conv.groups == 1
    return apart and whole and conv.padding in (0, (0, 0), "valid")

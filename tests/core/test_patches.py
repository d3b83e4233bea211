"""Patches as a matrix product are those of the convolution."""

from __future__ import annotations

import pytest
import torch
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from vlmadapt.core.backbone import patches
from vlmadapt.core.backbone.patches import embed_patches, embed_timm_patches, linear_patches

CONVOLUTIONS = {
    "square": nn.Conv2d(3, 8, 4, 4, bias=False),
    "with a bias": nn.Conv2d(3, 8, 4, 4),
    "oblong": nn.Conv2d(3, 8, (2, 8), (2, 8)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_product_gives_the_patches_of_the_convolution(name: str) -> None:
    conv, images = CONVOLUTIONS[name].double(), torch.randn(2, 3, 16, 24, dtype=torch.float64)
    expected = conv(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(linear_patches(conv, images), expected)
    torch.testing.assert_close(embed_patches(conv, images), expected)
    assert patches._side_by_side(conv, images)


def test_images_are_taken_in_the_precision_of_the_weights() -> None:
    conv = CONVOLUTIONS["square"].half()
    assert linear_patches(conv, torch.randn(1, 3, 8, 8)).dtype == torch.float16
    conv.float()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 4, 2),
        nn.Conv2d(3, 8, 4, 8),
        nn.Conv2d(3, 8, 4, 4, padding=2),
        nn.Conv2d(3, 6, 4, 4, groups=3),
        nn.Conv2d(3, 8, 4, 4, dilation=2),
        nn.Conv2d(3, 8, 5, 5),
    ],
    ids=["overlap", "room between", "border", "groups", "dilation", "rest"],
)
def test_other_convolutions_stay_convolutions(conv: nn.Conv2d) -> None:
    assert not patches._side_by_side(conv, torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_patches_of_timm(norm: type[nn.Module] | None) -> None:
    embedding, images = PatchEmbed(16, 4, 3, 8, norm_layer=norm), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(embed_timm_patches(embedding, images), embedding(images))

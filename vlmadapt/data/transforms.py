"""Image transforms of a backbone, for training and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transform import AugmentationCfg, PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch import Tensor, stack
from torchvision.transforms import Compose, RandomHorizontalFlip

Transform = Callable[[Image.Image], Tensor]
"""Transform of an RGB image to a normalised tensor (3, H, W)."""


def test_transform(preprocess: Mapping[str, Any], views: int = 1) -> Transform:
    """open_clip's own test transform.

    Args:
        preprocess: the model's `preprocess_cfg`: size, mean, std, interpolation, resize_mode, fill_color.
        views: if more than 1, the transform gives views (views, 3, H, W) of an image: the image itself, then random
            crops of 8 to 100 % of its area, half of them flipped.
    """
    plain: Transform = image_transform_v2(_config(preprocess), is_train=False)
    if views == 1:
        return plain
    return _Views(plain, train_transform(preprocess, crop_scale=(0.08, 1.0), flip=0.5), views)


@dataclass(frozen=True)
class _Views:
    plain: Transform
    crop: Transform
    views: int

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.stack([self.plain(image), *(self.crop(image) for _ in range(self.views - 1))])


def train_transform(preprocess: Mapping[str, Any], crop_scale: tuple[float, float], flip: float) -> Transform:
    """A random flip and open_clip's own training transform: a random crop, resized (bicubic), and normalised.

    The published code flips after the crop; a mirrored image has mirrored crops with the same probability, so the order
    makes no difference.

    Args:
        preprocess: the model's `preprocess_cfg`; size, mean and std are taken from it.
        crop_scale: smallest and largest part of the image's area that a crop takes.
        flip: probability of a horizontal flip.
    """
    augmentation = AugmentationCfg(scale=crop_scale)
    crop = image_transform_v2(_config(preprocess), is_train=True, aug_cfg=augmentation)
    transform: Transform = Compose([RandomHorizontalFlip(flip), crop])
    return transform


class Views:
    """Several random views (views, 3, H, W) of an image; the first is the one that a single view would be.

    Args:
        transform: draws a view.
        number: of views.
        last: gives the last view instead, where it is another kind.
    """

    def __init__(self, transform: Transform, number: int, last: Transform | None = None):
        self.transforms = (*[transform] * (number - 1), last or transform)

    def __call__(self, image: Image.Image) -> Tensor:
        """All views of an image."""
        return stack([transform(image) for transform in self.transforms])


def _config(preprocess: Mapping[str, Any]) -> PreprocessCfg:
    return PreprocessCfg(**merge_preprocess_dict({}, dict(preprocess)))

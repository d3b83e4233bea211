"""Image transforms of a backbone, for training and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from open_clip.transform import AugmentationCfg, PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, Resize, ToTensor
from torchvision.transforms.functional import InterpolationMode

from vlmadapt.data.augmentations import AugMix, RandAugment

Transform = Callable[[Image.Image], Tensor]
"""Transform of an RGB image to a normalised tensor (3, H, W)."""


def test_transform(
    preprocess: Mapping[str, Any], views: int = 1, augmentation: Literal["crop", "augmix"] = "crop"
) -> Transform:
    """open_clip's own test transform.

    Args:
        preprocess: the model's `preprocess_cfg`: size, mean, std, interpolation, resize_mode, fill_color.
        views: if more than 1, the transform gives views (views, 3, H, W) of an image: the image itself, then random
            crops of 8 to 100 % of its area, resized (bilinear), half of them flipped.
        augmentation: 'augmix' mixes each crop with changed copies of it, see `AugMix`.
    """
    plain: Transform = image_transform_v2(_config(preprocess), is_train=False)
    if views == 1:
        return plain
    crop = Compose([RandomResizedCrop(_size(preprocess)), RandomHorizontalFlip()])
    finish = _finish(preprocess)
    random: Transform = AugMix(crop, finish) if augmentation == "augmix" else _composed(crop, finish)
    return Views(random, views, first=plain)


def train_transform(
    preprocess: Mapping[str, Any],
    crop_scale: tuple[float, float],
    flip: float,
    augmentation: Literal["crop", "randaugment"] = "crop",
) -> Transform:
    """A random flip and open_clip's own training transform: a random crop, resized (bicubic), and normalised.

    The published code flips after the crop; a mirrored image has mirrored crops with the same probability, so the order
    makes no difference.

    Args:
        preprocess: the model's `preprocess_cfg`; size, mean and std are taken from it.
        crop_scale: smallest and largest part of the image's area that a crop takes.
        flip: probability of a horizontal flip.
        augmentation: 'randaugment' resizes the whole image (bicubic, whatever its shape) and changes it by
            `RandAugment`, in the place of crop and flip.
    """
    if augmentation == "randaugment":
        resize = Resize(_size(preprocess), InterpolationMode.BICUBIC)
        return _composed(resize, RandAugment(), _finish(preprocess))
    crop = image_transform_v2(_config(preprocess), is_train=True, aug_cfg=AugmentationCfg(scale=crop_scale))
    return _composed(RandomHorizontalFlip(flip), crop)


class Views:
    """Several random views (views, 3, H, W) of an image; the first is the one that a single view would be.

    Args:
        transform: draws a view.
        number: of views.
        last: gives the last view instead, where it is another kind.
        first: gives the first view instead.
    """

    def __init__(
        self, transform: Transform, number: int, last: Transform | None = None, first: Transform | None = None
    ):
        self.transforms = [transform] * number
        self.transforms[-1] = last or transform
        self.transforms[0] = first or self.transforms[0]

    def __call__(self, image: Image.Image) -> Tensor:
        """All views of an image."""
        return torch.stack([transform(image) for transform in self.transforms])


def _composed(*transforms: Callable[[Any], Any]) -> Transform:
    composed: Transform = Compose(transforms)  # whose stubs say Any
    return composed


def _size(preprocess: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width."""
    size = _config(preprocess).size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _finish(preprocess: Mapping[str, Any]) -> Transform:
    """Image to normalised tensor."""
    config = _config(preprocess)
    return _composed(ToTensor(), Normalize(config.mean, config.std))


def _config(preprocess: Mapping[str, Any]) -> PreprocessCfg:
    return PreprocessCfg(**merge_preprocess_dict({}, dict(preprocess)))

"""Augmentation on the device: crops are cut from decoded images on the host, all else is done where the model runs.

The crops and flips are those of the exact path, drawn with the same random numbers in the same order. Pixels differ by
rounding alone: Pillow rounds to whole numbers between its horizontal and vertical pass and after it, here nothing is
rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, RandomResizedCrop

from vlmadapt.data.transforms import train_transform


class Crop(NamedTuple):
    """A crop of one image.

    Attributes:
        pixels: (h, w, 3) uint8.
        flip: whether to mirror it.
    """

    pixels: Tensor
    flip: bool


@dataclass(frozen=True)
class Finish:
    """What is done on the device.

    Attributes:
        size: height and width.
        mean: of each channel, for pixels from 0 to 1.
        std: of each channel.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image(self, pixels: Tensor) -> Tensor:
        """Pixels (h, w, 3), 0 to 255, resized by antialiased bicubic interpolation to (3, H, W), 0 to 1."""
        image = pixels.permute(2, 0, 1)[None].float()
        resized = F.interpolate(image, self.size, mode="bicubic", antialias=True, align_corners=False)
        return resized[0].clamp(0, 255) / 255

    def normalized(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) with mean and standard deviation of the backbone's training data."""
        mean, std = _on_device(self.mean, images.device), _on_device(self.std, images.device)
        return (images - mean) / std


@dataclass(frozen=True)
class Crops:
    """The crops of a batch, in one tensor, so that one copy brings them to the device.

    Attributes:
        pixels: (bytes,) uint8, crop by crop.
        shapes: height and width of each crop.
        flips: whether to mirror each crop.
        finish: what is done on the device.
        views: crops of each image, which follow each other.
    """

    pixels: Tensor
    shapes: tuple[tuple[int, int], ...]
    flips: tuple[bool, ...]
    finish: Finish
    views: int = 1

    def pin_memory(self) -> Crops:
        """The same in pinned memory; the loader calls it."""
        return replace(self, pixels=self.pixels.pin_memory())

    def to(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """The augmented images (B, 3, H, W), or with several views (B, views, 3, H, W), on a device."""
        moved = self.pixels.to(device, non_blocking=non_blocking)
        if not self.shapes:
            return self._by_image(torch.empty(0, 3, *self.finish.size, device=device))
        ends = list(accumulate(3 * h * w for h, w in self.shapes))
        parts = zip([0, *ends], ends, self.shapes, self.flips, strict=False)
        images = [self._image(moved[start:end], shape, flip) for start, end, shape, flip in parts]
        return self._by_image(self.finish.normalized(torch.stack(images)))

    def _by_image(self, crops: Tensor) -> Tensor:
        return crops if self.views == 1 else crops.unflatten(0, (-1, self.views))

    def _image(self, pixels: Tensor, shape: tuple[int, int], flip: bool) -> Tensor:
        image = self.finish.image(pixels.view(*shape, 3))
        return image.flip(-1) if flip else image


class DeviceAugment:
    """`train_transform` in two halves: a call draws and cuts crops, `collate` and `Crops.to` do the rest.

    Args:
        preprocess: the model's `preprocess_cfg`; size, mean and std are taken from it.
        crop_scale: smallest and largest part of the image's area that a crop takes.
        flip: probability of a horizontal flip.
        views: views of each image.
    """

    def __init__(self, preprocess: Mapping[str, Any], crop_scale: tuple[float, float], flip: float, views: int = 1):
        exact = train_transform(preprocess, crop_scale, flip)
        self._flip = flip
        self._views = views
        self._crop: RandomResizedCrop = _step(exact, RandomResizedCrop)
        normalize = _step(exact, Normalize)
        height, width = self._crop.size
        self.finish = Finish((height, width), tuple(map(float, normalize.mean)), tuple(map(float, normalize.std)))

    def __call__(self, image: Image.Image) -> list[Crop]:
        """A random crop of an image for each view."""
        return [self._drawn(image) for _ in range(self._views)]

    def _drawn(self, image: Image.Image) -> Crop:
        """A random crop of an image, and whether to flip it."""
        flip = bool(torch.rand(1) < self._flip)
        top, left, height, width = self._crop.get_params(image, self._crop.scale, self._crop.ratio)
        if flip:  # the exact path flips first: its crop is counted from the other side
            left = image.width - left - width
        cut = image.crop((left, top, left + width, top + height))
        return Crop(torch.from_numpy(np.asarray(cut).copy()), flip)

    def collate(self, images: Sequence[Sequence[Crop]]) -> Crops:
        """The crops of a batch."""
        crops = [crop for views in images for crop in views]
        pixels = [crop.pixels.flatten() for crop in crops]
        return Crops(
            torch.cat(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
            tuple((crop.pixels.shape[0], crop.pixels.shape[1]) for crop in crops),
            tuple(crop.flip for crop in crops),
            self.finish,
            self._views,
        )


def _step(transform: Any, kind: type[Any]) -> Any:
    """The only step of a kind in a composed transform."""
    if isinstance(transform, Compose):
        found = [step for part in transform.transforms for step in [_step(part, kind)] if step is not None]
        return found[0] if found else None
    return transform if isinstance(transform, kind) else None


@cache
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]

"""RandAugment and AugMix as published code for CLIP has them: operations on colours and shapes of Pillow images.

All random numbers are torch's. Lengths in pixels are those of published code for images of 224 pixels, and change with
the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor

Operation = Callable[[Image.Image, float, int], Image.Image]
"""Takes an image, the strength from 0 to 1 and a sign, -1 or 1, of operations that have a direction."""

PUBLISHED_SIZE = 224
GREY = (125, 123, 114)
"""Mean colour of ImageNet, which fills what is cut out."""


class RandAugment:
    """Two random operations out of sixteen (Cubuk et al., 2020), as Dassl.pytorch has them, at a third of their scale.

    torchvision's RandAugment has other operations: it neither inverts nor cuts out, may leave an image as it is, and
    draws whether colours become stronger or weaker.

    Args:
        operations: number of operations, drawn with replacement.
        magnitude: strength of all, of 30.
    """

    def __init__(self, operations: int = 2, magnitude: int = 10):
        self.operations = operations
        self.strength = magnitude / 30

    def __call__(self, image: Image.Image) -> Image.Image:
        """An image after both operations."""
        for _ in range(self.operations):
            image = _one_of(RANDAUGMENT)(image, self.strength, _sign())
        return image


class AugMix:
    """A random mixture of an image with three chains of operations on it (Hendrycks et al., 2020).

    With x a crop, c_i chains of one to three operations on it, w drawn from Dirichlet(1, 1, 1) and m from Beta(1, 1):

        m x + (1 - m) sum_i w_i c_i

    As in published code for views of test images (TPT, TDA): operations on shapes and tones alone, at severity 1.

    Args:
        crop: draws a crop of an image.
        finish: image to normalised tensor (3, H, W).
    """

    def __init__(self, crop: Callable[[Image.Image], Image.Image], finish: Callable[[Image.Image], Tensor]):
        self.crop, self.finish = crop, finish

    def __call__(self, image: Image.Image) -> Tensor:
        """A view (3, H, W) of an image."""
        cropped = self.crop(image)
        weights = torch.empty(3).exponential_()  # normalised, these are drawn from Dirichlet(1, 1, 1)
        chains = torch.stack([self.finish(self._chain(cropped)) for _ in weights])
        mixed = torch.einsum("i,i...->...", weights / weights.sum(), chains)
        return torch.lerp(mixed, self.finish(cropped), float(torch.rand(1)))

    @staticmethod
    def _chain(image: Image.Image) -> Image.Image:
        for _ in range(int(torch.randint(1, 4, (1,)))):
            image = _one_of(AUGMIX)(image, _between(0.01, 0.1), _sign())
        return image


# -- operations of both -----------------------------------------------------------------------------------------------


def _autocontrast(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _moved(image: Image.Image, matrix: Sequence[float], resample: Image.Resampling) -> Image.Image:
    """The image whose pixel (x, y) is that at (a x + b y + c, d x + e y + f) of this one, black outside of it."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample)


# -- operations of RandAugment ----------------------------------------------------------------------------------------


def _invert(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image.rotate(sign * 30 * strength)


def _posterize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, int(4 + 4 * strength))


def _solarize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(256 * strength))


def _solarize_add(image: Image.Image, strength: float, sign: int) -> Image.Image:
    brighter = [min(int(value + 110 * strength), 255) for value in range(256)]
    return ImageOps.solarize(image.point(brighter * len(image.getbands())), 128)


def _enhance(kind: Any) -> Operation:
    """Less of a quality at strengths below a half, more above."""

    def enhance(image: Image.Image, strength: float, sign: int) -> Image.Image:
        enhanced: Image.Image = kind(image).enhance(0.1 + 1.8 * strength)
        return enhanced

    return enhance


def _shear_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, sign * 0.3 * strength, 0, 0, 1, 0), Image.Resampling.NEAREST)


def _shear_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, 0, sign * 0.3 * strength, 1, 0), Image.Resampling.NEAREST)


def _translate_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    shift = sign * strength * 100 / PUBLISHED_SIZE * image.width
    return _moved(image, (1, 0, shift, 0, 1, 0), Image.Resampling.NEAREST)


def _translate_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    shift = sign * strength * 100 / PUBLISHED_SIZE * image.height
    return _moved(image, (1, 0, 0, 0, 1, shift), Image.Resampling.NEAREST)


def _cut_out(image: Image.Image, strength: float, sign: int) -> Image.Image:
    side = strength * 40 / PUBLISHED_SIZE * image.width
    return cut_at(image, side, _between(1, image.width), _between(1, image.height))


def cut_at(image: Image.Image, side: float, x: float, y: float) -> Image.Image:
    """Fill a square with `GREY`, half of whose side is left of x and above y where the image has that much."""
    left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
    cut = image.copy()
    corners = (left, top, min(image.width, left + side), min(image.height, top + side))
    ImageDraw.Draw(cut).rectangle(corners, GREY)
    return cut


RANDAUGMENT: dict[str, Operation] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "cut_out": _cut_out,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


# -- operations of AugMix: whole degrees, pixels and grey levels, bilinear ---------------------------------------------


def _turned(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image.rotate(sign * int(30 * strength), Image.Resampling.BILINEAR)


def _fewer_bits(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 4 - int(4 * strength))


def _bright_inverted(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * strength))


def _slanted_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, sign * 0.3 * strength, 0, 0, 1, 0), Image.Resampling.BILINEAR)


def _slanted_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, 0, sign * 0.3 * strength, 1, 0), Image.Resampling.BILINEAR)


def _shifted_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, sign * int(strength * image.width / 3), 0, 1, 0), Image.Resampling.BILINEAR)


def _shifted_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, 0, 0, 1, sign * int(strength * image.height / 3)), Image.Resampling.BILINEAR)


AUGMIX: dict[str, Operation] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _fewer_bits,
    "rotate": _turned,
    "solarize": _bright_inverted,
    "shear_x": _slanted_x,
    "shear_y": _slanted_y,
    "translate_x": _shifted_x,
    "translate_y": _shifted_y,
}


# -- random numbers ---------------------------------------------------------------------------------------------------


def _one_of(operations: dict[str, Operation]) -> Operation:
    return list(operations.values())[int(torch.randint(len(operations), (1,)))]


def _sign() -> int:
    return 1 if torch.rand(1) < 0.5 else -1


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1))

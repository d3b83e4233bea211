"""Images in any form that Python users have them: paths, PIL images, arrays and tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from torch import Tensor

from vlmadapt.data.images import read_image, to_rgb
from vlmadapt.errors import DataError

ImageInput = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
"""One image: a file, a PIL image, an array (H, W, 3) or a tensor (3, H, W); see `as_rgb`."""

CHANNELS = (1, 3, 4)


def as_rgb(image: ImageInput) -> Image.Image:
    """An image as 8-bit RGB, a PIL image or an array exactly as its file would be read (see `to_rgb`).

    Args:
        image: path; PIL image; array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or tensor (1, H, W), (3, H, W) or
            (4, H, W), of uint8: grey, RGB, or RGB with opacity. A grey array may have uint16.

    Raises:
        DataError: the file cannot be read, or the array has another shape or type.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Tensor):
        return to_rgb(_from_array(_channels_last(image), "tensor"))
    if isinstance(image, np.ndarray):
        return to_rgb(_from_array(image, "array"))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    raise DataError(f"{type(image).__name__} is no image; give a path, a PIL image, an array or a tensor.")


def is_one_image(given: ImageInput | Iterable[ImageInput]) -> bool:
    """True for one image, False for a list, a batch (N, H, W, 3) or another iterable of images."""
    if isinstance(given, np.ndarray | Tensor):
        return given.ndim in (2, 3) and given.dtype != object
    return isinstance(given, str | Path | Image.Image)


def each_image(given: ImageInput | Iterable[ImageInput]) -> Iterable[ImageInput]:
    """The images given: one (see `is_one_image`), or several."""
    return cast("Iterable[ImageInput]", [given] if is_one_image(given) else given)


def _channels_last(image: Tensor) -> np.ndarray[Any, Any]:
    """A tensor (C, H, W) as an array (H, W, C)."""
    if image.ndim != 3 or image.shape[0] not in CHANNELS:
        raise DataError(f"a tensor {_shape(image)} is no image; give it as (3, H, W).")
    array: np.ndarray[Any, Any] = image.detach().cpu().movedim(0, -1).numpy()
    return array


def _from_array(array: np.ndarray[Any, Any], what: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        hint = "; give it as (H, W, 3)" if array.ndim == 3 and array.shape[0] in CHANNELS else ""
        raise DataError(f"an {what} {_shape(array)} is no image{hint}.")
    if array.dtype != np.uint8 and not (array.ndim == 2 and array.dtype == np.uint16):
        # Whether floats range over 0..1 or 0..255, or are normalised already, cannot be seen: never guess.
        raise DataError(f"{what}s of {array.dtype} are not read as images; give uint8 values from 0 to 255.")
    return Image.fromarray(np.ascontiguousarray(array))


def _shape(array: np.ndarray[Any, Any] | Tensor) -> str:
    return f"of shape {tuple(array.shape)}"

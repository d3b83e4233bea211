"""Images as Python users have them: a PIL image, an array or a tensor is read exactly like its file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlmadapt.data.image_input import ImageInput, as_rgb, is_one_image
from vlmadapt.data.images import read_image
from vlmadapt.errors import DataError

RANDOM = np.random.default_rng(0)
RGBA = Image.fromarray(RANDOM.integers(0, 256, (20, 24, 4), dtype=np.uint8), "RGBA")
DEEP = Image.fromarray(RANDOM.integers(0, 2**16, (20, 24), dtype=np.uint16))
TURNED = Image.Exif()
TURNED[0x112] = 6


def same(a: Image.Image, b: Image.Image) -> bool:
    return (a.mode, a.size) == (b.mode, b.size) == ("RGB", b.size) and bool((np.asarray(a) == np.asarray(b)).all())


@pytest.mark.parametrize(
    ("image", "ending", "options"),
    [
        (RGBA, "png", {}),
        (RGBA, "webp", {"lossless": True}),
        (RGBA.convert("LA"), "png", {}),
        (RGBA.convert("RGB"), "png", {"transparency": (1, 2, 3)}),
        (RGBA.convert("P"), "gif", {"transparency": 3}),
        (RGBA.convert("CMYK"), "jpg", {}),
        (RGBA.convert("1"), "png", {}),
        (RGBA.convert("RGB"), "jpg", {"exif": TURNED}),
        (RGBA, "png", {"exif": TURNED}),
        (DEEP, "png", {}),
        (DEEP, "tiff", {}),
        (Image.fromarray(RANDOM.random((20, 24), dtype=np.float32)), "tiff", {}),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value)[:12],
)
def test_a_pil_image_is_read_like_its_file(
    tmp_path: Path, image: Image.Image, ending: str, options: dict[str, Any]
) -> None:
    path = tmp_path / f"a.{ending}"
    image.save(path, **options)
    expected = read_image(path)
    opened = Image.open(path)
    assert same(as_rgb(opened), expected)
    assert same(as_rgb(opened), expected)  # and a second time
    assert same(as_rgb(Image.open(path).copy()), expected)
    assert same(as_rgb(str(path)), expected)


@pytest.mark.parametrize("image", [RGBA, RGBA.convert("RGB"), RGBA.convert("L"), DEEP], ids=lambda image: image.mode)
def test_arrays_and_tensors_are_read_like_the_image(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    expected, array = read_image(tmp_path / "a.png"), np.asarray(image)
    assert same(as_rgb(array), expected)
    if image is not DEEP:
        tensor = torch.tensor(np.atleast_3d(array)).movedim(-1, 0)
        assert same(as_rgb(tensor), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 20, 24), np.uint8), r"array of shape \(3, 20, 24\) is no image; give it as \(H, W, 3\)"),
        (np.zeros((20, 24, 3)), "arrays of float64 are not read as images; give uint8 values"),
        (torch.zeros(3, 20, 24), "tensors of float32 are not read"),
        (
            torch.zeros(20, 24, 3, dtype=torch.uint8),
            r"tensor of shape \(20, 24, 3\) is no image; give it as \(3, H, W\)",
        ),
        (np.zeros((0, 5, 3), np.uint8), "is no image"),
        (5, "int is no image"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_rgb(image)


def test_one_image_is_told_from_several() -> None:
    array, tensor = np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8)
    one: list[ImageInput] = ["a.png", Path("a.png"), RGBA, array, tensor]
    assert all(map(is_one_image, one))
    arrays, tensors = np.zeros((2, 4, 4, 3), np.uint8), torch.zeros(2, 3, 4, 4)
    several: list[ImageInput | Iterable[ImageInput]] = [one, iter(one), arrays, tensors, np.array(["a.png", "b.png"])]
    assert not any(map(is_one_image, several))

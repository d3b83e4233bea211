"""RandAugment and AugMix do what published code does.

`official_augmentations.npz` holds every 13th pixel, from the 7th on, of `picture` after each operation, by the names
`randaugment/OPERATION/SIGN` and `augmix/OPERATION/SIGN/LEVEL`: computed by Dassl.pytorch (c61a1b5,
dassl/data/transforms/randaugment.py, magnitude 10, what is cut out around x = 100.7, y = 5.2) and by TDA (e697fb0,
datasets/augmix_ops.py, levels of 10) with Pillow 13.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from vlmadapt.data import augmentations
from vlmadapt.data.augmentations import AUGMIX, RANDAUGMENT, AugMix, RandAugment, cut_at
from vlmadapt.data.generators import DrawFrom


def picture(size: int = 224) -> Image.Image:
    y, x = np.mgrid[0:size, 0:size]
    channels = [(x * x // 97 + y) % 256, (x + y * y // 61) % 256, (x * y // 83) % 256]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def test_every_operation_is_that_of_official_code() -> None:
    image, compared = picture(), set()
    with np.load(Path(__file__).with_name("official_augmentations.npz")) as official:
        for name, expected in official.items():
            kind, operation, sign, *level = name.split("/")
            if operation == "cut_out":
                found = cut_at(image, 40 * 10 / 30, 100.7, 5.2)
            elif kind == "randaugment":
                found = RANDAUGMENT[operation](image, 10 / 30, int(sign))
            else:
                found = AUGMIX[operation](image, float(level[0]) / 10, int(sign))
            pixels = np.asarray(found)[6::13, 6::13].astype(int)
            np.testing.assert_allclose(pixels, expected, atol=1, err_msg=name)  # as other versions of Pillow may round
            compared.add((kind, operation))
    assert compared == {("randaugment", n) for n in RANDAUGMENT} | {("augmix", n) for n in AUGMIX}


def test_lengths_follow_the_size_of_the_image() -> None:
    small = picture(56)
    moved = RANDAUGMENT["translate_x"](small, 0.56, 1)  # 56 of 224 pixels are 14 of 56
    assert np.array_equal(np.asarray(moved)[:, :42], np.asarray(small)[:, 14:])
    assert not np.asarray(moved)[:, 42:].any()


@pytest.mark.parametrize("kind", ["randaugment", "augmix"])
def test_the_generator_alone_decides(kind: str) -> None:
    transform = RandAugment() if kind == "randaugment" else AugMix(lambda image: image, to_tensor)

    def drawn(seed: int) -> np.ndarray:
        with DrawFrom(torch.Generator().manual_seed(seed)):
            return np.stack([np.asarray(transform(picture(40))) for _ in range(8)])

    assert np.array_equal(drawn(0), drawn(0))
    assert not np.array_equal(drawn(0), drawn(1))


def test_two_operations_out_of_all_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float, int]] = []

    def noted(name: str) -> augmentations.Operation:
        return lambda image, strength, sign: seen.append((name, strength, sign)) or image  # type: ignore[func-returns-value]

    monkeypatch.setattr(augmentations, "RANDAUGMENT", {name: noted(name) for name in RANDAUGMENT})
    torch.manual_seed(0)
    for _ in range(500):
        RandAugment()(picture(8))
    counts = {name: sum(name == found for found, _, _ in seen) for name in RANDAUGMENT}
    assert sum(counts.values()) == 1000
    assert all(35 < count < 95 for count in counts.values()), counts  # 62.5 each
    assert {(strength, sign) for _, strength, sign in seen} == {(1 / 3, 1), (1 / 3, -1)}


def test_augmix_lies_between_the_image_and_the_mean_of_its_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """With chains of one grey each, by how often an operation acted, a view is a convex combination of greys."""

    def darker(image: Image.Image, strength: float, sign: int) -> Image.Image:
        return image.point(lambda value: value // 2)

    monkeypatch.setattr(augmentations, "AUGMIX", {"darker": darker})
    torch.manual_seed(0)
    white = Image.new("RGB", (4, 4), (240,) * 3)
    views = [AugMix(lambda image: image, to_tensor)(white) for _ in range(400)]
    levels = torch.stack([view[0, 0, 0] for view in views])
    assert all(torch.equal(view, view[0, 0, 0].expand(3, 4, 4)) for view in views)
    assert 30 / 255 <= float(levels.min()) < float(levels.max()) <= 240 / 255
    mean = 240 / 255 * (0.5 + 0.5 * (1 / 2 + 1 / 4 + 1 / 8) / 3)  # E m = 1/2, a third of the chains has each length
    assert float(levels.mean()) == pytest.approx(mean, abs=0.03)

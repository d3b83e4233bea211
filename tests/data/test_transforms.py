"""Transforms say what the backbone's own configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms import functional as F

from tests.data.pictures import picture
from vlmadapt.data import transforms
from vlmadapt.data.augmentations import AugMix, RandAugment
from vlmadapt.data.images import read_image

CONFIG = {
    "size": (16, 16),
    "mode": "RGB",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.2, 0.1),
    "interpolation": "bilinear",
    "resize_mode": "squash",
    "fill_color": 0,
}


@pytest.fixture
def image(tmp_path: Path) -> Image.Image:
    return read_image(picture(tmp_path / "a.png", (40, 24)))


def as_pixels(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(CONFIG[name])[:, None, None] for name in ("mean", "std"))
    return x * std + mean


def test_test_transform_is_open_clips(image: Image.Image) -> None:
    x = transforms.test_transform(CONFIG)(image)
    assert x.shape == (3, 16, 16)
    assert torch.equal(x, image_transform_v2(PreprocessCfg(**CONFIG), is_train=False)(image))
    squashed = F.to_tensor(F.resize(image, [16, 16], F.InterpolationMode.BILINEAR))
    torch.testing.assert_close(as_pixels(x), squashed)


def test_keys_that_are_no_preprocessing_are_ignored(image: Image.Image) -> None:
    x = transforms.test_transform({**CONFIG, "context_length": 77})(image)
    assert torch.equal(x, transforms.test_transform(CONFIG)(image))


def test_crop_of_all_without_flip_is_a_bicubic_resize() -> None:
    image = Image.linear_gradient("L").convert("RGB")  # square: no other crop has the whole area
    x = transforms.train_transform(CONFIG, (1.0, 1.0), flip=0.0)(image)
    resized = F.to_tensor(F.resize(image, [16, 16], F.InterpolationMode.BICUBIC))
    torch.testing.assert_close(as_pixels(x), resized)


def test_flip_happens_with_its_probability(image: Image.Image) -> None:
    def mirrored(flip: float) -> float:
        transform = transforms.train_transform(CONFIG, (0.9, 1.0), flip)
        blue = torch.stack([transform(image)[2] for _ in range(200)])
        return (blue[..., 0] < blue[..., -1]).any(dim=1).float().mean().item()

    torch.manual_seed(0)
    never, always, half = mirrored(0.0), mirrored(1.0), mirrored(0.5)
    assert {never, always} == {0.0, 1.0}
    assert 0.4 < half < 0.6


def test_crop_scale_bounds_the_area() -> None:
    # Brightness is the place, so that the spread of brightness in a crop measures its extent.
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")

    def extent(scale: tuple[float, float]) -> float:
        transform = transforms.train_transform(CONFIG, scale, 0.0)
        found = [as_pixels(transform(image))[0] for _ in range(50)]
        return torch.stack([x.max() - x.min() for x in found]).mean().item()

    torch.manual_seed(0)
    assert extent((0.08, 0.1)) < 0.5
    assert extent((0.9, 1.0)) > 0.8


def test_randaugment_changes_the_whole_image_in_the_place_of_crop_and_flip(image: Image.Image) -> None:
    torch.manual_seed(0)
    found = transforms.train_transform(CONFIG, (0.1, 0.2), 1.0, "randaugment")(image)
    torch.manual_seed(0)
    expected = RandAugment()(F.resize(image, [16, 16], F.InterpolationMode.BICUBIC))
    torch.testing.assert_close(as_pixels(found), F.to_tensor(expected))


def test_views_of_a_test_image_are_the_image_and_crops_of_it(image: Image.Image) -> None:
    crop = Compose([RandomResizedCrop(16), RandomHorizontalFlip()])
    torch.manual_seed(0)
    views = transforms.test_transform(CONFIG, 3)(image)
    mixed = transforms.test_transform(CONFIG, 2, "augmix")(image)
    assert torch.equal(views[0], transforms.test_transform(CONFIG)(image))
    assert torch.equal(mixed[0], views[0])
    torch.manual_seed(0)
    for view in views[1:]:
        torch.testing.assert_close(as_pixels(view), F.to_tensor(crop(image)))
    torch.testing.assert_close(as_pixels(mixed[1]), AugMix(crop, F.to_tensor)(image))

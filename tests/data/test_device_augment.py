"""Augmentation on the device takes the crops and flips of the exact path; pixels differ by rounding."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from tests.data.pictures import examples
from vlmadapt.data.dataset import Example
from vlmadapt.data.device_augment import Crops, DeviceAugment
from vlmadapt.data.feed import Feed
from vlmadapt.data.loader import TrainBatches
from vlmadapt.data.transforms import train_transform

CONFIG = {"size": (24, 24), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}
CPU = torch.device("cpu")
ROUNDING = 2.0
"""Largest difference of a pixel, of 255: Pillow rounds after each of its two passes."""


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, ...]:
    return examples(tmp_path_factory.mktemp("pictures"), 10)


def pixels(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(CONFIG[name])[:, None, None] for name in ("mean", "std"))
    return 255 * (images * std + mean)


def epoch(augment: type[DeviceAugment] | object, ten: tuple[Example, ...], flip: float, workers: int = 0) -> Tensor:
    transform = augment(CONFIG, (0.08, 1.0), flip)  # type: ignore[operator]
    batches = TrainBatches(ten, transform, 4, seed=5, workers=workers)
    return torch.cat([batch.images for number in range(3) for batch in Feed(CPU)(batches.epoch(number))])


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_images_are_those_of_the_exact_path_but_for_rounding(ten: tuple[Example, ...], flip: float) -> None:
    exact, found = (pixels(epoch(augment, ten, flip)) for augment in (train_transform, DeviceAugment))
    assert found.shape == exact.shape == (24, 3, 24, 24)
    assert (found - exact).abs().max() < ROUNDING
    assert (found - exact.flip(-1)).abs().max() > 10 * ROUNDING, "the pictures are not symmetric"


def test_workers_change_nothing(ten: tuple[Example, ...]) -> None:
    assert torch.equal(epoch(DeviceAugment, ten, 0.5, workers=2), epoch(DeviceAugment, ten, 0.5))


def test_a_batch_is_sent_as_bytes_of_its_crops_alone(ten: tuple[Example, ...]) -> None:
    batch = next(TrainBatches(ten, DeviceAugment(CONFIG, (0.1, 0.2), 0.5), 4, seed=5, workers=0).epoch(0))
    assert isinstance(batch.images, Crops)
    assert batch.images.pixels.dtype == torch.uint8
    assert batch.images.pixels.numel() == sum(3 * h * w for h, w in batch.images.shapes)
    assert torch.equal(pickle.loads(pickle.dumps(batch.images)).to(CPU), batch.images.to(CPU))


def test_an_empty_share_has_the_shape_of_images() -> None:
    assert DeviceAugment(CONFIG, (0.1, 1.0), 0.5).collate([]).to(CPU).shape == (0, 3, 24, 24)


def test_the_device_is_asked_for_no_value_and_gets_one_tensor(ten: tuple[Example, ...]) -> None:
    from vlmadapt.testing.host_waits import host_waits

    batches = TrainBatches(ten, DeviceAugment(CONFIG, (0.1, 1.0), 0.5), 4, seed=5, workers=0).epoch(0)
    first, second = next(batches), next(batches)
    first.images.to(CPU)
    assert host_waits(lambda: second.images.to(CPU)) == []

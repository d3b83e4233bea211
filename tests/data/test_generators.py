"""Random numbers of transforms come from their own generator, in one thread only."""

from __future__ import annotations

import threading

import pytest
import torch
from PIL import Image

from vlmadapt.data.generators import DrawFrom
from vlmadapt.data.transforms import Transform, train_transform

IMAGE = Image.effect_noise((50, 60), 80).convert("RGB")


@pytest.fixture
def transform() -> Transform:
    return train_transform({"size": 32}, (0.08, 1.0), 0.5)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_those_of_the_global_generator_with_the_same_seed(transform: Transform, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        expected = transform(IMAGE)
    with DrawFrom(generator(seed)):
        assert torch.equal(transform(IMAGE), expected)


def test_the_global_generator_is_not_touched(transform: Transform) -> None:
    before = torch.get_rng_state()
    with DrawFrom(generator(1)):
        transform(IMAGE)
        torch.randperm(4)
        torch.empty(3).normal_()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_given_is_used() -> None:
    with DrawFrom(generator(1)):
        drawn = torch.rand(3, generator=generator(2))
    assert torch.equal(drawn, torch.rand(3, generator=generator(2)))


def test_another_thread_still_draws_from_the_global_generator() -> None:
    drawn: list[torch.Tensor] = []
    with torch.random.fork_rng(devices=[]), DrawFrom(generator(1)):
        torch.default_generator.manual_seed(2)
        thread = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
        thread.start()
        thread.join()
    assert torch.equal(drawn[0], torch.rand(3, generator=generator(2)))

"""Training on the output of the untouched image tower is training on images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.world import World, adapter
from vlmadapt import fit
from vlmadapt.data.loader import GlobalBatches
from vlmadapt.training import build_loop
from vlmadapt.training.encoded import EncodedBatches

LABELS = torch.arange(10)


def output(view: int) -> Tensor:
    """Row i of view v is (v, i)."""
    return torch.stack([torch.full((10,), float(view)), LABELS.float()], dim=1)


def test_batches_are_those_of_the_images() -> None:
    batches = EncodedBatches(output, 3, LABELS, 4, seed=1)
    sampler = GlobalBatches(10, 4, seed=1, views=3)
    for epoch in (0, 1, 2, 3):
        sampler.epoch = epoch
        expected = list(sampler)
        found = list(batches.epoch(epoch))
        assert len(found) == len(batches) == 2
        assert [[tuple(row) for row in batch.images.int().tolist()] for batch in found] == expected
        assert [batch.labels.tolist() for batch in found] == [[index for _, index in batch] for batch in expected]


def test_processes_share_a_batch_and_an_epoch_may_start_in_the_middle() -> None:
    whole = list(EncodedBatches(output, 1, LABELS, 5, seed=1).epoch(2))
    shares = [
        list(EncodedBatches(output, 1, LABELS, 5, seed=1, rank=rank, world=2).epoch(2, start=1)) for rank in (0, 1)
    ]
    assert torch.equal(torch.cat([share[0].images for share in shares]), whole[1].images)
    assert [len(share[0].labels) for share in shares] == [2, 3]
    assert {batch.total for share in shares for batch in share} == {5}


def trained(world: World, out: Path, method: str, plan: str, **train: Any) -> dict[str, Tensor]:
    fit(world.settings(out, method, plan=plan, train={"views": 2, "epochs": 4, **train}))
    return adapter(out)


@pytest.mark.parametrize("method", ["coop", "tip-adapter-f", "dpc"])
def test_a_method_ends_with_the_parameters_that_training_on_images_gives(
    world: World, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_images = trained(world, tmp_path / "images", method, "reference")
    monkeypatch.setattr(build_loop, "TrainBatches", lambda *_, **__: pytest.fail("images are loaded in training"))
    encoded = trained(world, tmp_path / "encoded", method, "planned")
    assert on_images.keys() == encoded.keys()
    for name, values in on_images.items():
        torch.testing.assert_close(encoded[name].float(), values.float(), rtol=1e-3, atol=1e-4)


def test_a_method_inside_the_image_tower_trains_on_images(world: World, tmp_path: Path) -> None:
    two = trained(world, tmp_path / "two", "clip-lora", "planned", steps_per_shot=0)
    four = trained(world, tmp_path / "four", "clip-lora", "planned", steps_per_shot=0, views=4)
    assert any(not torch.equal(two[name], four[name]) for name in two)

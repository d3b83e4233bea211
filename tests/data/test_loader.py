"""The same images whatever the workers, the processes and the place a run was resumed from."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.pictures import examples
from vlmadapt.data import loader as loader_module
from vlmadapt.data import transforms
from vlmadapt.data.dataset import Example
from vlmadapt.data.images import read_image
from vlmadapt.data.loader import Batch, GlobalBatches, ImageSet, TrainBatches, eval_batches

CONFIG = {"size": 8}
TRAIN = transforms.train_transform(CONFIG, (0.3, 1.0), 0.5)
TEST = transforms.test_transform(CONFIG)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, ...]:
    return examples(tmp_path_factory.mktemp("pictures"), 10)


def by_index(batches: Iterable[Batch]) -> dict[int, Tensor]:
    return {int(i): image for batch in batches for i, image in zip(batch.indices, batch.images, strict=True)}


def assert_same(left: Iterable[Batch], right: Iterable[Batch]) -> None:
    for a, b in zip(left, right, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))
        assert a.total == b.total


def test_a_batch_holds_images_labels_indices_and_its_size(ten: tuple[Example, ...]) -> None:
    batches = TrainBatches(ten, TRAIN, batch_size=4, seed=1)
    assert len(batches) == 2
    found = list(batches.epoch(0))
    assert len(found) == 2
    for batch in found:
        assert batch.images.shape == (4, 3, 8, 8)
        assert batch.labels.tolist() == [ten[i].label for i in batch.indices]
        assert batch.total == 4


def test_epochs_differ_in_order_and_augmentation(ten: tuple[Example, ...]) -> None:
    batches = TrainBatches(ten, TRAIN, batch_size=10, seed=1)
    (first,), (second,) = batches.epoch(0), batches.epoch(1)
    assert first.indices.tolist() != second.indices.tolist()
    images, others = by_index([first]), by_index([second])
    assert not any(torch.equal(images[i], others[i]) for i in range(10))


def test_seeds_differ_and_repeat(ten: tuple[Example, ...]) -> None:
    (first,) = TrainBatches(ten, TRAIN, 10, seed=1).epoch(0)
    assert_same([first], TrainBatches(ten, TRAIN, 10, seed=1).epoch(0))
    (other,) = TrainBatches(ten, TRAIN, 10, seed=2).epoch(0)
    assert first.indices.tolist() != other.indices.tolist()


def test_workers_change_nothing_even_when_an_epoch_is_left_early(ten: tuple[Example, ...]) -> None:
    alone, helped = (TrainBatches(ten, TRAIN, 3, seed=1, workers=n) for n in (0, 2))
    next(helped.epoch(5))
    for epoch in (0, 1):
        assert_same(alone.epoch(epoch), helped.epoch(epoch))
    assert_same(eval_batches(ten, TEST, 3, workers=0), eval_batches(ten, TEST, 3, workers=2))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_the_batches_of_one(ten: tuple[Example, ...], world: int) -> None:
    whole = list(TrainBatches(ten, TRAIN, 4, seed=1).epoch(2))
    shares = [list(TrainBatches(ten, TRAIN, 4, 1, rank, world).epoch(2)) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        assert {part.total for part in parts} == {4}
        sizes = [len(part.images) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_an_empty_share_has_the_shape_of_images(ten: tuple[Example, ...]) -> None:
    (batch,) = TrainBatches(ten[:2], TRAIN, 2, 1, rank=0, world=3).epoch(0)
    assert batch.images.shape == (0, 3, 8, 8)
    assert batch.labels.shape == batch.indices.shape == (0,)
    assert batch.labels.dtype == torch.long
    assert batch.total == 2


def test_resuming_in_mid_epoch_gives_the_rest(ten: tuple[Example, ...]) -> None:
    whole = list(TrainBatches(ten, TRAIN, 2, seed=1).epoch(3))
    resumed = TrainBatches(ten, TRAIN, 2, seed=1)
    assert_same(resumed.epoch(3, start=3), whole[3:])
    assert len(resumed) == 5
    assert len(list(resumed.epoch(4))) == 5


def test_last_incomplete_batch_is_dropped_unless_alone() -> None:
    assert [len(batch) for batch in GlobalBatches(10, 4, seed=1).batches()] == [4, 4]
    assert [len(batch) for batch in GlobalBatches(8, 4, seed=1).batches()] == [4, 4]
    assert [len(batch) for batch in GlobalBatches(3, 4, seed=1).batches()] == [3]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_evaluation_sees_everything_once_in_order(ten: tuple[Example, ...], world: int) -> None:
    ranks = [list(eval_batches(ten, TEST, 4, rank, world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {3}
    steps = [[part for batches in ranks for part in batches[step].indices.tolist()] for step in range(3)]
    assert [index for step in steps for index in step] == list(range(10))
    assert [batch.total for batch in ranks[0]] == [4, 4, 2]


def test_batches_in_order_can_be_augmented_differently(ten: tuple[Example, ...]) -> None:
    first, again, other = (by_index(eval_batches(ten, TRAIN, 4, seed=1, epoch=epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(first[i], again[i]) for i in range(10))
    assert not any(torch.equal(first[i], other[i]) for i in range(10))


def test_with_views_epochs_show_them_in_turn(ten: tuple[Example, ...]) -> None:
    new, viewed = TrainBatches(ten, TRAIN, 4, seed=1), TrainBatches(ten, TRAIN, 4, seed=1, views=2)
    first, second, third = (by_index(viewed.epoch(epoch)) for epoch in (0, 1, 2))
    again = by_index(new.epoch(2))
    shared = first.keys() & third.keys()
    assert shared
    assert all(torch.equal(first[i], third[i]) for i in shared)
    assert not any(torch.equal(first[i], second[i]) for i in first.keys() & second.keys())
    assert third.keys() == again.keys()  # the order is another one in each epoch
    assert not any(torch.equal(third[i], again[i]) for i in third)


def test_random_states_are_left_alone(ten: tuple[Example, ...]) -> None:
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    list(TrainBatches(ten, TRAIN, 4, seed=1).epoch(0))
    list(eval_batches(ten, TEST, 4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]


def test_pixels_do_not_depend_on_the_global_seed(ten: tuple[Example, ...]) -> None:
    torch.manual_seed(1)
    first = list(TrainBatches(ten, TRAIN, 4, seed=1).epoch(0))
    torch.manual_seed(2)
    assert_same(first, TrainBatches(ten, TRAIN, 4, seed=1).epoch(0))


def test_cached_images_are_decoded_once_and_look_the_same(
    ten: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counting(path: Path) -> object:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(loader_module, "read_image", counting)
    cached, plain = ImageSet(ten, TRAIN, 1, cache_images=True), ImageSet(ten, TRAIN, 1)
    assert len(read) == 10
    for epoch in (0, 1):
        assert all(torch.equal(cached[epoch, i][0], plain[epoch, i][0]) for i in range(10))
    assert len(read) == 30


def test_cache_stays_within_its_budget(ten: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    many = ten * 20
    monkeypatch.setattr(loader_module, "CACHE_BYTES", 100 * 4 * 24 * 20)
    images = ImageSet(many, TEST, cache_images=True)
    assert len(images._decoded) == 128  # 100 images fit; they are decoded 64 at a time
    assert torch.equal(images[0, 150][0], images[0, 0][0])


def test_decoded_images_are_not_sent_to_spawned_workers(ten: tuple[Example, ...]) -> None:
    images = ImageSet(ten, TRAIN, 1, cache_images=True)
    sent = pickle.loads(pickle.dumps(images))
    assert sent._decoded == []
    assert torch.equal(sent[0, 3][0], images[0, 3][0])


def test_workers_have_more_batches_ready_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loader_module._prefetch(4, 8) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loader_module, "usable_cores", lambda: 32)
    assert loader_module._workers(images=1600, world=1) == 16
    assert [loader_module._prefetch(batch, 16) for batch in (1, 4, 32, 128)] == [16, 8, 2, 2]

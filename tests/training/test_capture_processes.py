"""Two processes replay the same captured steps, or none of them does. A stand-in takes the place of the CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from tests.training.test_capture import LR, Recorded, T, World
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.capture import WARM_UP, CapturedStep

STEPS = WARM_UP + 4


class Refusing(Recorded):
    """Fails at the end of a capture: the stand-in runs what it captures, so both take part in the exchange."""

    def capture(self, function: Callable[[], T]) -> T:
        super().capture(function)
        raise RuntimeError("operation not permitted when stream is capturing")


class OneOfTwo(OneProcess):
    """One of two processes on the CPU."""

    num_processes = 2

    def __init__(self, rank: int):
        self.process_index = rank

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """The sum over both."""
        assert reduction == "sum"
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed


Way = Literal["eager", "captured", "refused"]
"""How steps run: as they are; captured; or captured, where that fails in the second process."""


def train(rank: int, way: Way) -> dict[str, Any]:
    """Train on one of two shards."""
    there = World(accelerator=OneOfTwo(rank))
    step = CapturedStep(there.step, there.graph(Refusing if way == "refused" and rank == 1 else Recorded))
    step.start_epoch()
    values = []
    for number in range(STEPS):
        there.trainer.start_step(LR, 0.5, number, batch=4)
        images, labels = (x[4 * number + 2 * rank :][:2] for x in (there.images, there.labels))
        values.append((there.step if way == "eager" else step)(images, labels).values.clone())
    numbers = {"values": torch.stack(values), **there.method.state_dict()}
    return {"numbers": numbers, "captured": step.captured, "reason": step.reason}


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save({way: train(rank, way) for way in get_args(Way)}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Way, dict[str, Any]]]:
    """What each of two processes found, by the way its steps ran."""
    folder = tmp_path_factory.mktemp("processes")
    spawn(process, args=(folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.processes
@pytest.mark.parametrize("way", ["captured", "refused"])
def test_two_processes_take_the_steps_that_they_would_take_eagerly(
    trained: list[dict[Way, dict[str, Any]]], way: Way
) -> None:
    for found in trained:
        for name, value in found["eager"]["numbers"].items():
            assert torch.equal(found[way]["numbers"][name], value), name


@pytest.mark.processes
def test_both_replay_or_none_does(trained: list[dict[Way, dict[str, Any]]]) -> None:
    assert [found["captured"]["captured"] for found in trained] == [True, True]
    assert [found["refused"]["captured"] for found in trained] == [False, False]
    first, second = (found["refused"]["reason"] for found in trained)
    assert first == "the step cannot be captured: another process cannot capture it"
    assert "operation not permitted" in second


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_exchange_over_nccl_is_captured(tmp_path: Path) -> None:
    """One process plays one of two: NCCL wants a GPU for each, and one is enough to capture its exchange."""
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        found = []
        for captured in (False, True):
            there = World(device="cuda", accelerator=OneOfTwo(0))
            step = CapturedStep(there.step)
            step.start_epoch()
            found.append(list(there.run(step if captured else there.step, STEPS)))
            assert step.reason is None
            assert step.captured is captured
        torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(found[0]), rtol=1e-6, atol=1e-6)
    finally:
        dist.destroy_process_group()

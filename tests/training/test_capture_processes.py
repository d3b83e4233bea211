"""Two processes replay the same captured steps, or none of them does. A stand-in takes the place of the CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def process(rank: int, folder: Path, captured: bool, failing: int | None) -> None:
    """Train on one of two shards; in process `failing` the capture fails."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    there = World(accelerator=OneOfTwo(rank))
    step = CapturedStep(there.step, there.graph(Refusing if rank == failing else Recorded))
    step.start_epoch()
    values = []
    for number in range(STEPS):
        there.trainer.start_step(LR, 0.5, number, batch=4)
        images, labels = (x[4 * number + 2 * rank :][:2] for x in (there.images, there.labels))
        values.append((step if captured else there.step)(images, labels).values.clone())
    found = {"values": torch.stack(values), "state": there.method.state_dict(), "reason": step.reason}
    torch.save({**found, "captured": step.captured}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def trained(folder: Path, captured: bool = True, failing: int | None = None) -> list[dict[str, Any]]:
    folder.mkdir()
    spawn(process, args=(folder, captured, failing), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.processes
def test_both_replay_the_steps_that_they_would_take_eagerly(tmp_path: Path) -> None:
    eager, replayed = trained(tmp_path / "eager", captured=False), trained(tmp_path / "captured")
    assert [found["captured"] for found in replayed] == [True, True]
    for found, expected in zip(replayed, eager, strict=True):
        assert torch.equal(found["values"], expected["values"])
        assert all(torch.equal(found["state"][name], value) for name, value in expected["state"].items())
        assert all(torch.equal(replayed[0]["state"][name], value) for name, value in found["state"].items())


@pytest.mark.processes
def test_where_one_cannot_capture_both_step_eagerly(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "refused", failing=1)
    assert not first["captured"]
    assert not second["captured"]
    assert first["reason"] == "the step cannot be captured: another process cannot capture it"
    assert "operation not permitted" in second["reason"]
    assert all(torch.equal(second["state"][name], value) for name, value in first["state"].items())


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

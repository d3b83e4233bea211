"""Classes shared out over processes: same features, same gradients, less work."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests import small
from tests.core.hook_shapes import SHAPES, Synthetic, deep_context, first_in_both
from tests.parity.tiny_clip import inputs
from vlmadapt.core import run_tower
from vlmadapt.core.distributed import chunks
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.templates import Template
from vlmadapt.plugin import IMAGE, TEXT

SHARED = [first_in_both, deep_context]


def step(folder: Path, images: Tensor, share: float, shape: int) -> tuple[dict[str, Tensor], int]:
    """Gradients of a process's share of a loss, and how many class rows it put through the text blocks."""
    backbone = small.backbone(folder).double()
    method = Synthetic(backbone, SHARED[shape])
    counted = 0
    run_block = run_tower.run_block

    def counting(block, x, packing, adapters):  # type: ignore[no-untyped-def]
        nonlocal counted
        counted += x.suffix.shape[1] if x.map.pool is not None and torch.is_grad_enabled() else 0
        return run_block(block, x, packing, adapters)

    run_tower.run_block = counting
    x = ForwardPass(Engine(backbone), method, small.NAMES, [Template.parse("a photo of a {}.")], images)
    x.zero_shot.text  # noqa: B018 - kept before counting
    loss = (x.image() @ x.text().T).logsumexp(dim=-1).mean() * share + x.features(TEXT).sum() * 0.01 * share
    loss = loss + x.features(IMAGE).mean() * share
    loss.backward()
    run_tower.run_block = run_block
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}, counted


def process(rank: int, world: int, port: int, folder: Path, shape: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    images = inputs(1, 6, 16).double()
    mine = images[:4] if rank == 0 else images[4:]
    gradients, counted = step(folder / str(rank), mine, len(mine) / len(images), shape)
    for gradient in gradients.values():
        dist.all_reduce(gradient)
    torch.save({"gradients": gradients, "counted": counted}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shape", range(len(SHARED)), ids=lambda i: SHARED[i].__name__)
def test_two_processes_take_the_gradients_of_one(tmp_path: Path, shape: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, args=(2, port, tmp_path, shape), nprocs=2)
    alone, counted_alone = step(tmp_path / "alone", inputs(1, 6, 16).double(), 1.0, shape)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for both in found:
        assert both["gradients"].keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(both["gradients"][name], gradient, rtol=1e-9, atol=1e-12)
    assert sum(both["counted"] for both in found) == counted_alone, "together they do the work of one"


def test_chunks_cover_a_range() -> None:
    assert chunks(3, 10, 3) == [(3, 6), (6, 9), (9, 10)]
    assert chunks(0, 5, 0) == [(0, 5)]
    assert SHAPES

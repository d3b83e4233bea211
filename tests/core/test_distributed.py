"""Classes shared out over processes: same features, same gradients, less work."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from tests import small
from tests.core.hook_shapes import Synthetic, deep_context, first_in_both
from tests.parity.tiny_clip import inputs
from vlmadapt.core import run_tower
from vlmadapt.core.block import run_block
from vlmadapt.core.distributed import chunks, gather_classes, many_processes, shard_range, world_size
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

    def counting(block, x, packing, adapters):  # type: ignore[no-untyped-def]
        nonlocal counted
        counted += x.suffix.shape[1] if x.map.pool is not None and torch.is_grad_enabled() else 0
        return run_block(block, x, packing, adapters)

    with patch.object(run_tower, "run_block", counting):
        x = ForwardPass(Engine(backbone), method, small.NAMES, [Template.parse("a photo of a {}.")], images)
        x.zero_shot.text  # noqa: B018 - kept before counting
        loss = (x.image() @ x.text().T).logsumexp(dim=-1).mean() * share + x.features(TEXT).sum() * 0.01 * share
        loss = loss + x.features(IMAGE).mean() * share
        loss.backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}, counted


def process(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    # They meet in a file: a port that was free a moment ago may be taken by another test.
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    images = inputs(1, 6, 16).double()
    mine = images[:4] if rank == 0 else images[4:]
    assert many_processes()
    for shape in range(len(SHARED)):
        gradients, counted = step(folder / str(rank), mine, len(mine) / len(images), shape)
        for gradient in gradients.values():
            dist.all_reduce(gradient)
        torch.save({"gradients": gradients, "counted": counted}, folder / f"{rank}-{shape}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found, in a folder."""
    folder = tmp_path_factory.mktemp("processes")
    spawn(process, args=(2, folder), nprocs=2)
    return folder


@pytest.mark.processes
@pytest.mark.parametrize("shape", range(len(SHARED)), ids=lambda i: SHARED[i].__name__)
def test_two_processes_take_the_gradients_of_one(tmp_path: Path, trained: Path, shape: int) -> None:
    alone, counted_alone = step(tmp_path / "alone", inputs(1, 6, 16).double(), 1.0, shape)
    found = [torch.load(trained / f"{rank}-{shape}.pt", weights_only=True) for rank in (0, 1)]
    for both in found:
        assert both["gradients"].keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(both["gradients"][name], gradient, rtol=1e-9, atol=1e-12)
    assert sum(both["counted"] for both in found) == counted_alone, "together they do the work of one"


def test_chunks_cover_a_range() -> None:
    assert chunks(3, 10, 3) == [(3, 6), (6, 9), (9, 10)]
    assert chunks(0, 6, 3) == [(0, 3), (3, 6)]
    assert chunks(0, 5, 7) == chunks(0, 5, 0) == [(0, 5)]
    assert chunks(2, 2, 0) == chunks(2, 2, 3) == []


def test_a_single_process_is_one_of_one() -> None:
    assert world_size() == 1
    assert not many_processes()


@pytest.mark.parametrize(("classes", "world"), [(10, 2), (10, 3), (7, 4), (3, 3), (2, 3)])
def test_shares_cover_all_classes_and_differ_by_one_at_most(
    monkeypatch: pytest.MonkeyPatch, classes: int, world: int
) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        shares.append(shard_range(classes))
    assert [i for low, high in shares for i in range(low, high)] == list(range(classes))
    sizes = [high - low for low, high in shares]
    assert max(sizes) - min(sizes) <= 1


def test_shares_are_put_together_and_their_gradients_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes, with what the first one has and wants: five classes, of which it encodes three."""
    theirs, wanted = torch.tensor([[10.0, 11.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    mine = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    monkeypatch.setattr(dist, "all_reduce", lambda whole: whole[:, :2].add_(theirs))
    whole = gather_classes(mine, 5)
    assert whole.tolist() == [[10, 11, 1, 2, 3]]
    monkeypatch.setattr(dist, "all_reduce", lambda gradient: gradient.add_(wanted))
    whole.backward(torch.tensor([[10.0, 20.0, 30.0, 40.0, 50.0]]))  # type: ignore[no-untyped-call]
    assert mine.grad is not None
    assert mine.grad.tolist() == [[33, 44, 55]]

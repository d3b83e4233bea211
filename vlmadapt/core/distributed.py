"""Splitting a class list: into chunks to save memory, over processes to save time."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def chunks(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """The range start..stop in chunks of at most `size`; one chunk if size is 0."""
    step = size or max(stop - start, 1)
    return [(low, min(low + step, stop)) for low in range(start, stop, step)]


def shard_range(n: int) -> tuple[int, int]:
    """Range of the n classes that this process encodes; sizes differ by one at most."""
    rank, world = dist.get_rank(), dist.get_world_size()
    return n * rank // world, n * (rank + 1) // world


def many_processes() -> bool:
    """Whether several processes train together."""
    return world_size() > 1


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_classes(mine: Tensor, n: int) -> Tensor:
    """All-gather with gradients: features of all n classes (G, n, ...) from every process's shard (G, shard, ...).

    The gradient of a shard is summed over all processes, so losses that the processes have weighted by their images add
    up to the loss of the whole batch.
    """
    return _Gather.apply(mine, n)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, n: int) -> Tensor:
        ctx.share = start, stop = shard_range(n)
        whole = mine.new_zeros(mine.shape[0], n, *mine.shape[2:])
        whole[:, start:stop] = mine
        # Shards may differ in size: summing zeros elsewhere needs no padding, and every backend supports it.
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        start, stop = ctx.share
        return summed[:, start:stop], None

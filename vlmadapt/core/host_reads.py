"""Whether the host may read a tensor's value without waiting for a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_like_a_gpu = ContextVar("_like_a_gpu", default=False)


def reads_are_free(device: torch.device) -> bool:
    """True on the CPU, unless `like_a_gpu` is in force."""
    return device.type == "cpu" and not _like_a_gpu.get()


@contextmanager
def like_a_gpu() -> Iterator[None]:
    """Compute on the CPU as on a GPU, where no value may be read by the host: for checks of what would wait there."""
    token = _like_a_gpu.set(True)
    try:
        yield
    finally:
        _like_a_gpu.reset(token)

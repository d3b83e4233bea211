"""What work costs on a device, relative to other work: kernel launches and attention tiles in tokens.

Packing by length and sharing a prefix compute fewer tokens with more kernels. On a CPU a kernel costs next to nothing;
on a GPU it costs a launch, in which the card would have computed many tokens (see docs/performance.md).
"""

from __future__ import annotations

TOKENS_PER_KERNEL: dict[str, float] = {"cpu": 0.64, "cuda": 80.0}
"""By device type; tokens of one block of CLIP's text tower. All accelerators count as GPUs."""

BUCKET_KERNELS = 25
"""Kernels that one more length bucket adds to a block, forward and backward."""

PREFIX_KERNELS = 13
"""Kernels that a shared prefix adds to a block, forward and backward."""


QUERIES_PER_TILE: dict[str, int] = {"cpu": 1, "cuda": 64}
"""Queries that attention computes at once; a sequence with fewer of them leaves the rest of its tile idle."""


def sequences_per_tile(device_type: str, sequences: int, length: int) -> int:
    """How many sequences of `length` queries share a tile: the largest divisor of `sequences` that fits, at least 1."""
    fit = min(QUERIES_PER_TILE[_kind(device_type)] // max(length, 1), sequences)
    return next((n for n in range(fit, 1, -1) if sequences % n == 0), 1)


def bucket_cost(device_type: str) -> float:
    """Padding tokens per block that one more bucket has to save to pay for its attention call."""
    return BUCKET_KERNELS * _tokens_per_kernel(device_type)


def prefix_cost(device_type: str) -> float:
    """Tokens per block that a shared prefix has to save to pay for its attention call."""
    return PREFIX_KERNELS * _tokens_per_kernel(device_type)


def _tokens_per_kernel(device_type: str) -> float:
    return TOKENS_PER_KERNEL[_kind(device_type)]


def _kind(device_type: str) -> str:
    return "cpu" if device_type in ("cpu", "meta") else "cuda"

"""Distributed runs: one process, or several started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import torch
from accelerate import Accelerator, PartialState


def join_processes() -> Accelerator:
    """Join the processes that work together.

    Without a GPU, Accelerate needs `cpu=True`; otherwise each of several processes would train separately.
    """
    return Accelerator(cpu=not torch.accelerator.is_available())


def is_main_process() -> bool:
    """Whether this process writes and prints; valid after `join_processes`."""
    return PartialState().is_main_process

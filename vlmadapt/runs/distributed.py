"""One process, or several that `accelerate launch` or `torchrun` have started."""

from __future__ import annotations

import torch
from accelerate import Accelerator, PartialState


def join_processes() -> Accelerator:
    """This process among those that work together.

    Accelerate has to be told of the CPU: several processes on a machine without an accelerator would each take itself
    for the only one.
    """
    return Accelerator(cpu=not torch.accelerator.is_available())


def is_main_process() -> bool:
    """Whether this is the process that writes and prints; to be asked once they have joined."""
    return PartialState().is_main_process

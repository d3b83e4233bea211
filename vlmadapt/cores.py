"""CPU cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Number of CPU cores, fewer than the machine has if the process is restricted to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

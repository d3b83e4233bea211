"""Ctrl-C and termination signals stop training between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(Exception):
    """Training stopped on request; everything up to the last step is saved."""

    def __init__(self, folder: Path, epoch: int, step: int, steps: int):
        super().__init__(
            f"stopped in epoch {epoch} after step {step} of {steps}; everything is saved. "
            f"Go on with: vlmadapt fit --resume {folder}"
        )


ONE_REQUEST = 1.0
"""Seconds within which signals are one request: launchers pass on the Ctrl-C that their processes have seen as well."""


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """Collect the times of SIGINT and SIGTERM instead of breaking off; a second request breaks off at once."""
    asked: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked and time.monotonic() - asked[0] > ONE_REQUEST:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

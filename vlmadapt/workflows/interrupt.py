"""Ctrl-C and termination signals stop training between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
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


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of breaking off; a second one breaks off at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

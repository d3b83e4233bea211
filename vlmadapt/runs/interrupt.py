"""Stop requests: Ctrl-C and termination signals end training between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
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
"""Seconds within which signals count as one request: launchers forward a Ctrl-C that their workers have received."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask to stop: Ctrl-C, `kill` and schedulers, a closed terminal."""


@contextmanager
def stop_requests(on_request: Callable[[], None] = lambda: None) -> Iterator[list[float]]:
    """Collect the times of `SIGNALS` instead of raising; a second request raises KeyboardInterrupt at once.

    A signal that the process was started to ignore, as SIGHUP under `nohup`, stays ignored.

    Args:
        on_request: called in the main thread with the first signal.
    """
    asked: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked and time.monotonic() - asked[0] > ONE_REQUEST:
            raise KeyboardInterrupt
        asked.append(time.monotonic())
        if len(asked) == 1:
            on_request()

    heard = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

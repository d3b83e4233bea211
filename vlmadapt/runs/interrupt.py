"""Ctrl-C and termination signals end a command in one sentence, and training between two steps."""

from __future__ import annotations

import os
import signal
import socket
import sys
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


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C asked to stop while nothing was trained.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {_name(number)}")
        self.number = number


GRACE = 5.0
"""Seconds after which a signal ends a process that is stuck in a call to a library, waiting for others for example."""
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
    _PATIENT.set()

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
        _PATIENT.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


_PATIENT = threading.Event()
"""Set while signals are requests, which may take as long as a training step."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM and SIGHUP, as Ctrl-C raises KeyboardInterrupt, so that files are tidied up.

    If the main thread does not react within `GRACE` seconds, the process ends with the same exit code all the same.
    A signal that the process was started to ignore stays ignored; outside the main thread nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    heard = [n for n in SIGNALS if n != signal.SIGINT and signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in heard}
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    woken = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_if_stuck, args=(receiver,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        sender.close()  # ends the thread
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end_if_stuck(signals: socket.socket) -> None:
    """End the process `GRACE` seconds after a signal, unless signals are requests or the command has ended."""
    with signals:
        while received := signals.recv(1):
            if received[0] not in SIGNALS or _PATIENT.is_set():
                continue
            signals.settimeout(GRACE)
            try:
                while signals.recv(1):  # more signals change nothing
                    pass
            except TimeoutError:
                sys.stderr.write(f"vlmadapt: stopped by {_name(received[0])}.\n")
                sys.stderr.flush()
                os._exit(128 + received[0])
            return


def _name(number: int) -> str:
    return signal.Signals(number).name

"""A child process that does not outlive its parent: `python -m vlmadapt.compare.launchers.child MODULE ARGUMENTS`.

Runs a module as `python -m` does while a thread reads standard input, a pipe whose other end only the parent holds. The
pipe ends when the parent does, even after `kill -9`; the module is then asked to stop, and killed if it does not.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from contextlib import suppress

GRACE = 5.0
"""Seconds that the module has to save its state after the parent died."""


def main() -> None:
    """Run the module named by the first argument with the rest as its arguments."""
    signal.signal(
        signal.SIGTERM, lambda number, frame: kill_group(os.getpid())
    )  # unless the module installs its own handler
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def kill_group(leader: int) -> None:
    """Kill a process that leads its own group, and all processes that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    else:
        with suppress(OSError):
            os.kill(leader, signal.SIGTERM)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    kill_group(os.getpid())
    os._exit(1)


if __name__ == "__main__":
    main()

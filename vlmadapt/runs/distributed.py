"""Distributed runs: one process, or several started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from vlmadapt.core.distributed import many_processes
from vlmadapt.errors import VlmadaptError

LOST = "another process of this run has ended; its message says why. The run can be resumed."
BROKEN = re.compile(
    r"\bgloo\b|nccl|connection (closed|reset|refused)|broken pipe|socket|tcpstore|timed? ?out", re.IGNORECASE
)
"""Messages of exchanges between processes that fail because one of them has ended."""
WATCH_EVERY = 1.0
"""Seconds between two looks at whether the other processes are alive."""
GRACE = 4.0
"""Seconds that this process has to notice by itself that another one has ended."""


def join_processes(trackers: Sequence[str] = (), tracked: Path | None = None) -> Accelerator:
    """Join the processes that work together.

    Without a GPU, Accelerate needs `cpu=True`; otherwise each of several processes would train separately.

    Args:
        trackers: names of Accelerate's trackers.
        tracked: folder for their files.
    """
    alone = not torch.accelerator.is_available()
    return Accelerator(cpu=alone, log_with=list(trackers) or None, project_dir=tracked)


def is_main_process() -> bool:
    """Whether this process writes and prints; valid after `join_processes`."""
    return PartialState().is_main_process


@contextmanager
def ended_with_peers() -> Iterator[None]:
    """End this process in one sentence, within seconds, when another process of the run ends before its time.

    An exchange with a process that has ended either fails or, on GPUs, waits for many minutes; a thread looks after the
    second case. It sees processes of the same machine; those of others are ended by their launcher.

    Raises:
        VlmadaptError: another process has ended.
    """
    if not many_processes():
        yield
        return
    done = threading.Event()
    try:
        threading.Thread(target=_watch, args=(_local_peers(), done), daemon=True).start()
        yield
    except RuntimeError as error:
        if not BROKEN.search(f"{type(error).__name__} {error}"):
            raise
        raise VlmadaptError(LOST) from error
    finally:
        done.set()


def _local_peers() -> list[int]:
    """Process ids of the other processes of the run on this machine."""
    everyone = gather_object([(platform.node(), os.getpid())])
    return [pid for node, pid in everyone if node == platform.node() and pid != os.getpid()]


def _watch(peers: Sequence[int], done: threading.Event) -> None:
    while not done.wait(WATCH_EVERY):
        if not all(map(_alive, peers)):
            if not done.wait(GRACE):
                sys.stderr.write(f"vlmadapt: {LOST}\n")
                sys.stderr.flush()
                os._exit(2)
            return


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    if sys.platform == "win32":  # os.kill would end it
        import psutil

        return bool(psutil.pid_exists(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return True
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")

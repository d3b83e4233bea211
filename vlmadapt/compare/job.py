"""Jobs: command lines that do one run, or several that share image features, and continue what was interrupted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.run import RESULT, Run

LOG, REQUESTED = "log.txt", "requested.yaml"
WORKER = "vlmadapt.compare.worker"


@dataclass(frozen=True)
class Job:
    """What a launcher starts; started again it does only what is missing.

    Attributes:
        title: name in messages.
        folders: run folders, each with the settings of its run; their results are what the job is for.
    """

    title: str
    folders: tuple[Path, ...]

    @property
    def arguments(self) -> list[str]:
        """Module and arguments for `python -m`."""
        return [WORKER, *(str(folder.absolute()) for folder in self.folders)]

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", *self.arguments]

    def __str__(self) -> str:
        return shlex.join(self.command)


Ended = Callable[[Job, str | None], None]
"""Called with each job that has ended, and with what a launcher knows of a failure, as 'killed by signal 9'."""


class Launcher(Protocol):
    """A way to run jobs; entry points of the group `vlmadapt.launchers` are called like this."""

    def __call__(self, jobs: Sequence[Job], at_once: int, ended: Ended, options: Mapping[str, Any]) -> bool:
        """Run jobs.

        Args:
            jobs: jobs in the order to be started.
            at_once: number of jobs that run at the same time.
            ended: called in this thread with each job that has ended.
            options: options of the launcher, from `--launcher_options`.

        Returns:
            Whether all were run; False if a signal asked to stop.
        """


def outcome(folder: Path, cause: str | None = None) -> str | None:
    """Error of a run whose job has ended: the line of its log that explains it; None if it has a result.

    Args:
        folder: run folder.
        cause: what the launcher knows of the end of the job.
    """
    try:
        if (folder / RESULT).exists() and Run(folder).result() is not None:
            return None
    except VlmadaptError as error:
        return str(error)
    last = _explanation(folder / LOG)
    return f"{cause}: {last}" if cause and last else cause or last or "ended without a result"


def was_tried(folder: Path) -> bool:
    """Whether a worker has begun with a run since its old log was removed."""
    return (folder / LOG).exists()


def _explanation(log: Path) -> str:
    """The last error that vlmadapt reported, else the last line."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("vlmadapt: ") for line in lines if line.startswith("vlmadapt: ")]
    return said[-1] if said else lines[-1] if lines else ""


def split_evenly(items: Sequence[Path], parts: int) -> Iterator[tuple[Path, ...]]:
    """Consecutive parts whose sizes differ by one at most, without empty ones."""
    ends = [len(items) * i // parts for i in range(parts + 1)]
    return (tuple(items[low:high]) for low, high in pairwise(ends) if low < high)

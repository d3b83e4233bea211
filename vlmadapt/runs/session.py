"""Session: processes, messages and workers of a running command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from vlmadapt.runs.distributed import join_processes
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.shared import Shared


@dataclass(frozen=True)
class Session:
    """One process of a command.

    Attributes:
        accelerator: this process among those that work together.
        reporter: progress bars and messages.
        workers: processes that load images; None for the machine's default.
        shared: what this run shares with others of the same process; None if it shares nothing.
    """

    accelerator: Accelerator
    reporter: Reporter
    workers: int | None = None
    shared: Shared | None = None

    @classmethod
    def join(
        cls,
        workers: int | None = None,
        trackers: Sequence[str] = (),
        tracked: Path | None = None,
        shared: Shared | None = None,
    ) -> Session:
        """Join the processes that `accelerate launch` or `torchrun` has started; without them, work alone.

        Args:
            workers: processes that load images.
            trackers: names of Accelerate's trackers.
            tracked: folder for their files.
            shared: what this run shares with others of the same process.
        """
        accelerator = join_processes(trackers, tracked)
        return cls(accelerator, Reporter(accelerator.is_main_process), workers, shared)

    @property
    def main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.accelerator.is_main_process

"""A worker that does the runs of a job one after another: `python -m vlmadapt.compare.worker FOLDER ...`.

Each folder has the settings of its run in `requested.yaml`. Finished runs are skipped and interrupted ones are resumed,
so the same command line continues after it was killed. Several runs share their backbone and image features. A run that
fails does not stop the others; what it says is in `log.txt` in its folder.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlmadapt.compare.job import LOG, REQUESTED, outcome
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.interrupt import Interrupted, ended_by_signals
from vlmadapt.runs.memory import reset_peak_memory
from vlmadapt.runs.run import CONFIG
from vlmadapt.runs.settings import FitSettings
from vlmadapt.runs.settings_files import read_settings
from vlmadapt.runs.shared import Shared
from vlmadapt.training.fit import fit

DONE, FAILED, STOPPED = 0, 2, 130
"""Exit codes, as of the command line."""


def work(folders: Sequence[Path]) -> int:
    """Do what is missing in these run folders, and return the exit code."""
    shared = Shared() if len(folders) > 1 else None
    codes = {DONE}
    for folder in folders:
        if (folder / CONFIG).is_file() and outcome(folder) is None:
            continue
        with _output_in(folder / LOG):
            code = _run(folder, shared)
        if code == STOPPED:
            return STOPPED
        codes.add(code)
    return max(codes)


def _run(folder: Path, shared: Shared | None) -> int:
    """Start or resume a run, and return the exit code."""
    try:
        reset_peak_memory()
        settings = FitSettings.from_config(read_settings([folder / REQUESTED]))
        fit(settings, resume=folder if (folder / CONFIG).is_file() else None, shared=shared)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"vlmadapt: {str(error) or 'stopped'}", file=sys.stderr)
        return STOPPED
    except (VlmadaptError, OSError) as error:
        print(f"vlmadapt: {error}", file=sys.stderr)
        return FAILED
    except Exception:  # a fault in a plugin must not stop the other runs
        traceback.print_exc()
        return FAILED
    return DONE


@contextmanager
def _output_in(log: Path) -> Iterator[None]:
    """Write standard output and error to a file, also those of libraries that do not use Python's streams."""
    kept = [os.dup(number) for number in (1, 2)]
    with log.open("wb") as file:
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, former in zip((1, 2), kept, strict=True):
                os.dup2(former, number)
                os.close(former)


def main() -> None:
    """Work on the folders given as arguments."""
    with ended_by_signals():
        code = work([Path(argument) for argument in sys.argv[1:]])
    sys.exit(code)


if __name__ == "__main__":
    main()

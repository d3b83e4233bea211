"""What each of two processes does in `test_processes`; started by `accelerate launch`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tests.world import World
from vlmadapt import FitSettings, fit
from vlmadapt.evaluation import accuracy as evaluate
from vlmadapt.evaluation.evaluate import evaluate as evaluate_run
from vlmadapt.runs.interrupt import Interrupted
from vlmadapt.runs.progress import Reporter

JOBS: dict[str, dict[str, Any]] = {
    "sgd": {"train": {"optimizer": "sgd"}},
    "shares-of-two-and-three": {"train": {"batch_size": 5}},
    "batches-of-one-image": {"train": {"batch_size": 1, "epochs": 1}},
    "one-batch-smaller-than-asked-for": {"train": {"batch_size": 32}},
    "base-to-novel": {"protocol": "base-to-novel", "method": "promptsrc"},
    "fp16": {"train": {"precision": "fp16"}, "method": "coop"},
    "nothing-trained": {"method": "clip"},
}
"""Settings of runs by name."""

INTERRUPTED = "interrupted"


def main(world: World, out: Path) -> None:
    torch.set_num_threads(1)
    evaluate.BATCH = 1  # eight test images in batches of two, and of three where there are nine
    for name, changes in JOBS.items():
        world.fit(out / name, **changes)
    interrupt_one_process(world, out / INTERRUPTED)
    fit(FitSettings("mmrl"), resume=out / INTERRUPTED)
    accuracies, _ = evaluate_run(out / "sgd")
    (out / f"evaluated-{os.environ['RANK']}").write_text(str([(a.correct, a.total) for a in accuracies]))


def interrupt_one_process(world: World, folder: Path) -> None:
    """Only the second process receives a signal, in the middle of the second epoch."""
    original = Reporter.update

    def update(self: Reporter, completed: int, numbers: str) -> None:
        original(self, completed, numbers)
        if os.environ["RANK"] == "1" and completed == 4:
            os.kill(os.getpid(), signal.SIGINT)

    Reporter.update = update  # type: ignore[method-assign]
    try:
        world.fit(folder)
    except Interrupted:
        Path(f"{folder}-{os.environ['RANK']}").touch()
    finally:
        Reporter.update = original  # type: ignore[method-assign]


if __name__ == "__main__":
    main(World(Path(sys.argv[1])), Path(sys.argv[2]))

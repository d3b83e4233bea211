"""Estimated training time of a comparison, from finished runs of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlmadapt.compare.index import State
from vlmadapt.compare.plan import PlannedRun
from vlmadapt.runs.run import Run


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a run.

    Attributes:
        epochs: passes over the support set; None if they follow from the number of images.
        seconds: training time of a finished run of the same kind; None if there is none.
    """

    epochs: int | None
    seconds: float | None


def costs(planned: Sequence[PlannedRun]) -> list[Cost]:
    """Cost of each run, in order; 0 for finished ones."""
    known: dict[tuple[str, int], float] = {}
    for p in planned:
        result = Run(p.folder).result() if p.state is State.DONE else None
        if result:
            known[_kind(p)] = (result["seconds_per_step"] or 0.0) * result["steps"]
    return [
        Cost(0, 0.0) if p.state is State.DONE else Cost(_epochs(p), known.get(_kind(p)))
        for p in planned
    ]  # fmt: skip


def _kind(planned: PlannedRun) -> tuple[str, int]:
    """Runs of one kind take the same number of steps."""
    settings = planned.spec.settings
    return f"{settings.method} {settings.data}", settings.shots


def _epochs(planned: PlannedRun) -> int | None:
    train = planned.spec.settings.train
    return None if train["steps_per_shot"] else train["epochs"]

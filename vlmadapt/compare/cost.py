"""Estimated time and memory of a comparison: from finished runs of the same kind, or from measured steps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vlmadapt.compare.index import State
from vlmadapt.compare.job import Job
from vlmadapt.compare.plan import PlannedRun, missing
from vlmadapt.errors import DataError
from vlmadapt.files import read_json, write_json
from vlmadapt.runs.run import Run, machine
from vlmadapt.runs.settings import FitSettings
from vlmadapt.training.run_cost import RunCost, estimate_cost

MEASURED = "costs.json"
Kind = tuple[str, str, int]
"""Method, data and shots: runs of one kind do the same number of steps."""


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a run.

    Attributes:
        epochs: passes over the support set; None if they follow from the number of images.
        run: time and memory; None if nothing is known.
    """

    epochs: int | None
    run: RunCost | None


def costs(planned: Sequence[PlannedRun], folder: Path) -> list[Cost]:
    """Cost of each run, in order, from finished runs or from what `measure` wrote to the comparison's folder."""
    known = {**_measured(folder), **_finished(planned)}
    return [Cost(_epochs(p), known.get(kind_of(p.spec.settings))) for p in planned]


def measure(planned: Sequence[PlannedRun], folder: Path, say: Callable[[str], None]) -> None:
    """Do a few steps of each kind of run of unknown cost, and keep the results for this machine in the folder.

    Raises:
        VlmadaptError: a run cannot be started.
    """
    known = {**_measured(folder), **_finished(planned)}
    unknown = {kind_of(p.spec.settings): p for p in missing(planned) if not p.error}
    for kind, run in unknown.items():
        if kind not in known:
            say(f"measuring {run.spec.title}")
            known[kind] = estimate_cost(run.spec.settings)
            _write(folder, {**_measured(folder), kind: known[kind]})


def longest_first(jobs: Iterable[Job], planned: Sequence[PlannedRun], folder: Path) -> list[Job]:
    """Jobs by their estimated time, so that no long one starts last; those of unknown time come first."""
    found = zip(planned, costs(planned, folder), strict=True)
    seconds = {p.folder: float("inf") if cost.run is None else cost.run.seconds for p, cost in found}
    return sorted(jobs, key=lambda job: -sum(seconds[one] for one in job.folders))


def total_seconds(seconds: Iterable[float], at_once: int) -> float:
    """Time until all are done if the longest are started first and `at_once` run at the same time."""
    ends = [0.0] * at_once
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def kind_of(settings: FitSettings) -> Kind:
    """Kind of a run."""
    return settings.method, settings.data, settings.shots


def _finished(planned: Sequence[PlannedRun]) -> dict[Kind, RunCost]:
    """Training and test time, and memory, of finished runs."""
    found = {}
    for p in planned:
        result = Run(p.folder).result() if p.state is State.DONE else None
        if result:
            tests = sum(group.get("seconds", 0.0) for group in result.get("groups", ()))
            seconds = (result["seconds_per_step"] or 0.0) * result["steps"] + tests
            found[kind_of(p.spec.settings)] = RunCost(seconds, int(result["peak_memory_bytes"]))
    return found


def _measured(folder: Path) -> dict[Kind, RunCost]:
    """What was measured on this machine before; empty if the file is damaged, for it can be measured again."""
    try:
        content = read_json(folder / MEASURED) if (folder / MEASURED).is_file() else {}
        if content.get("machine") != _machine():
            return {}
        return {(m, d, k): RunCost(cost["seconds"], cost["memory"]) for m, d, k, cost in content["runs"]}
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _write(folder: Path, known: dict[Kind, RunCost]) -> None:
    runs = [[*kind, asdict(cost)] for kind, cost in known.items()]
    write_json(folder / MEASURED, {"machine": _machine(), "runs": runs})


def _machine() -> dict[str, object]:
    """What times depend on."""
    found = machine()
    return {name: found[name] for name in ("platform", "gpu", "threads")}


def _epochs(planned: PlannedRun) -> int | None:
    train = planned.spec.settings.train
    return None if train["steps_per_shot"] else train["epochs"]

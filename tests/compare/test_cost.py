from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.compare.test_jobs import settings
from tests.world import World
from vlmadapt.compare.cost import costs, longest_first, measure, total_seconds
from vlmadapt.compare.plan import make_jobs, missing, plan
from vlmadapt.training.run_cost import estimate_cost


def test_the_longest_are_started_first() -> None:
    assert total_seconds([1, 1, 1, 3], 2) == 3
    assert total_seconds([2, 2, 2], 2) == 4 and total_seconds([2, 2, 2], 1) == 6 and total_seconds([], 3) == 0


def test_costs_are_measured_once_and_order_the_jobs(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    out = tmp_path / "out"
    made = settings(world, out, "clip", "coop", "mmrl", seeds=(1,))
    made = replace(made, method_configs=[], train={"epochs": 4, "batch_size": 1}, methods=["clip", "coop"])
    planned = plan(made)
    assert all(cost.run is None for cost in costs(planned, out))
    said: list[str] = []
    measure(planned, out, said.append)
    assert len(said) == 3  # clip, and coop at two numbers of shots
    measure(planned, out, said.append)
    assert len(said) == 3 and not (out / "runs").exists()
    found = {(p.spec.settings.method, p.spec.shots): c.run for p, c in zip(planned, costs(planned, out), strict=True)}
    few, more = found["coop", 2], found["coop", 3]
    assert few and more and few.memory > 0 and few.seconds > 0 and more.seconds > 0
    jobs = longest_first(make_jobs(missing(planned), 1), planned, out)
    seconds = {p.folder: c.run.seconds for p, c in zip(planned, costs(planned, out), strict=True) if c.run}
    times = [sum(seconds[folder] for folder in job.folders) for job in jobs]
    assert times == sorted(times, reverse=True)


def test_an_estimate_is_scaled_from_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.make(tmp_path)
    from vlmadapt.training.step import TrainingStep

    steps: list[int] = []
    step = TrainingStep.__call__
    monkeypatch.setattr(TrainingStep, "__call__", lambda self, *given: (steps.append(1), step(self, *given))[1])
    few = estimate_cost(world.settings(tmp_path / "run", "coop", train={"epochs": 50, "batch_size": 1}))
    assert len(steps) == 6 and few.seconds > 0 and not (tmp_path / "run").exists()

"""Every launcher ends with the same tables, also after a worker was killed: the same call continues."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compare.test_jobs import settings
from tests.world import World, outcome
from vlmadapt.compare import compare as module
from vlmadapt.compare.compare import compare
from vlmadapt.compare.job import Job
from vlmadapt.compare.plan import PlannedRun, make_jobs

pytestmark = [pytest.mark.slow, pytest.mark.processes]
LAUNCHERS: dict[str, dict[str, Any]] = {
    "local": {},
    "slurm": {"cluster": "local", "timeout_min": 10},
    "ray": {"num_cpus": 1, "include_dashboard": False},
}
ONCE_KILLED = """
import os, pathlib, runpy, sys
killed = pathlib.Path(sys.argv[1], "killed")
if not killed.exists():
    killed.touch()
    os.kill(os.getpid(), 9)
del sys.argv[1]
runpy.run_module("vlmadapt.compare.worker", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class OnceKilled(Job):
    """A job that is killed when it is first started."""

    @property
    def arguments(self) -> list[str]:
        return ["tests.compare.code", ONCE_KILLED, str(self.folders[0]), *map(str, self.folders)]


def killing(runs: list[PlannedRun], at_once: int) -> list[Job]:
    """The jobs; the first of them is killed at its first start."""
    first, *others = make_jobs(runs, at_once)
    return [OnceKilled(first.title, first.folders), *others]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def expected(world: World) -> Path:
    compare(settings(world, world.root / "expected", "clip", "tip-adapter", "coop", seeds=(1,)), 2)
    return world.root / "expected"


def tables(folder: Path) -> Any:
    content = json.loads((folder / "table.json").read_text())
    return [row["accuracy"] for row in content["rows"]], content["statistics"], content["quality"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_tables_after_a_killed_worker_are_the_same(
    world: World, expected: Path, tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"slurm": "submitit", "ray": "ray"}.get(launcher, "json"))
    options = LAUNCHERS[launcher] | ({"folder": str(tmp_path / "logs")} if launcher == "slurm" else {})
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made = settings(world, tmp_path / "out", "clip", "tip-adapter", "coop", seeds=(1,))
    monkeypatch.setattr(module, "make_jobs", killing)
    try:
        first, _ = compare(made, 2, launcher, options)
        errors = {entry.error for entry in first.entries if entry.error}
        assert all("killed by signal 9" in error for error in errors)
        again, _ = compare(made, 2, launcher, options)
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    assert not any(entry.error for entry in again.entries)
    assert tables(tmp_path / "out") == tables(expected)
    for entry in again.entries:
        assert outcome(entry.folder) == outcome(expected / "runs" / entry.folder.name)

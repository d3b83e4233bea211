"""What jobs consist of, and workers that do several runs in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.world import World, outcome
from vlmadapt import fit
from vlmadapt.compare.compare import prepare
from vlmadapt.compare.job import split_evenly
from vlmadapt.compare.plan import plan
from vlmadapt.compare.settings import CompareSettings
from vlmadapt.compare.worker import work
from vlmadapt.runs.run import Run


def settings(world: World, out: Path, *methods: str, seeds: tuple[int, ...] = (1, 2)) -> CompareSettings:
    return CompareSettings(
        methods=list(methods),
        data=[str(world.pictures)],
        protocol="few-shot",
        seeds=list(seeds),
        shots=[2, 3],
        backbone=str(world.clip),
        train={"epochs": 1, "batch_size": 4},
        workers=0,
        out=str(out),
    )


def test_a_method_that_learns_nothing_is_run_once(tmp_path: Path) -> None:
    planned = plan(settings(World.make(tmp_path), tmp_path / "out", "clip", "coop"))
    of = {name: [p for p in planned if p.spec.settings.method == name] for name in ("clip", "coop")}
    assert len(of["clip"]) == len(of["coop"]) == 4
    assert len({p.folder for p in of["clip"]}) == 1 and len({p.folder for p in of["coop"]}) == 4
    assert {(p.spec.seed, p.spec.shots) for p in of["clip"]} == {(1, 2), (1, 3), (2, 2), (2, 3)}


def test_methods_on_features_share_jobs_of_neighbouring_seeds(tmp_path: Path) -> None:
    made = settings(World.make(tmp_path), tmp_path / "out", "clip", "tip-adapter", "coop")
    jobs = prepare(made, 2)
    shared = [[Run(folder).folder.name.rsplit("-", 1)[0] for folder in job.folders] for job in jobs[:2]]
    pictures = ["tip-adapter-pictures-2shot-seed1", "tip-adapter-pictures-2shot-seed2",
                "tip-adapter-pictures-3shot-seed1", "tip-adapter-pictures-3shot-seed2"]  # fmt: skip
    assert shared == [["clip-pictures-2shot-seed1", pictures[0]], pictures[1:]]
    assert [len(job.folders) for job in jobs[2:]] == [1] * 4
    assert str(jobs[0]).endswith(" ".join(map(str, jobs[0].folders)))


def test_a_worker_does_what_is_missing_and_goes_on_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World.make(tmp_path)
    (job,) = prepare(settings(world, tmp_path / "out", "clip", "tip-adapter", "taskres", seeds=(1,)), 1)
    broken = job.folders[1] / "requested.yaml"
    broken.write_text(broken.read_text().replace("shots: 2", "shots: -2"))
    with capsys.disabled():  # the worker writes to the process's own output
        assert work(job.folders) == 2
    assert [(folder / "result.json").exists() for folder in job.folders] == [True, False, True, True, True]
    assert "vlmadapt: shots is -2" in (job.folders[1] / "log.txt").read_text()
    first = (job.folders[0] / "result.json").stat().st_mtime_ns
    broken.write_text(broken.read_text().replace("shots: -2", "shots: 2"))
    assert work(job.folders) == 0
    assert (job.folders[0] / "result.json").stat().st_mtime_ns == first
    alone = Run(job.folders[-1]).settings()
    fit(type(alone)(**{**vars(alone), "out": str(tmp_path / "alone")}))
    assert outcome(tmp_path / "alone") == outcome(job.folders[-1])


@pytest.mark.parametrize(("count", "parts", "sizes"), [(5, 2, [2, 3]), (1, 3, [1]), (0, 2, []), (6, 3, [2, 2, 2])])
def test_parts_are_even(count: int, parts: int, sizes: list[int]) -> None:
    items = [Path(str(i)) for i in range(count)]
    found = list(split_evenly(items, parts))
    assert [len(part) for part in found] == sizes and [item for part in found for item in part] == items


def test_commands_hold_in_any_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    World.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = CompareSettings(
        methods=["clip"], data=["./pictures"], protocol="few-shot", shots=[2], backbone="clip", out="o"
    )
    (job,) = prepare(made, 1)
    assert job.arguments[1:] == [str(tmp_path / job.folders[0])]
    requested = (job.folders[0] / "requested.yaml").read_text()
    assert f"data: {tmp_path}/pictures" in requested and f"backbone: {tmp_path}/clip" in requested

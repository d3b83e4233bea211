"""Two real processes give what one process gives for the same global batch."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.two_processes import INTERRUPTED, JOBS
from tests.world import World, adapter, metrics, result

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.processes


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` with two processes on the CPU, joined by gloo.

    `--cpu --num_processes 2` would start a single one: Accelerate leaves processes on a CPU to mpirun. `--multi_gpu` is
    how it is told to start them itself, and without a GPU they meet on the CPU. Finding its port taken, it lets the
    processes choose one themselves (torchrun's standalone mode), which no other test can take in between.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", str(port)]
        return subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", *options, *arguments],
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def assert_alike(two: Path, one: Path, tolerance: float = 1e-5) -> None:
    for a, b in zip(metrics(two), metrics(one), strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    tensors, expected = adapter(two), adapter(one)
    assert tensors.keys() == expected.keys()
    for name in tensors:
        torch.testing.assert_close(tensors[name], expected[name], rtol=tolerance, atol=tolerance)
    numbers, alone = result(two), result(one)
    assert (numbers.pop("processes"), alone.pop("processes")) == (2, 1)
    assert numbers == alone


@pytest.fixture(scope="module")
def command(world: World) -> subprocess.CompletedProcess[str]:
    return launch("-m", "vlmadapt", *world.arguments(world.root / "two", "mmrl"))


@pytest.fixture(scope="module")
def jobs(world: World) -> Path:
    done = launch("-m", "tests.training.two_processes", str(world.root), str(world.root / "jobs"))
    assert done.returncode == 0, done.stderr
    return world.root / "jobs"


def test_the_command_gives_the_losses_and_the_adapter_of_one_process(
    world: World, command: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert command.returncode == 0, command.stderr
    world.fit(tmp_path / "one")
    assert_alike(world.root / "two", tmp_path / "one")


def test_one_process_prints_the_table_and_the_remarks(command: subprocess.CompletedProcess[str]) -> None:
    assert command.stdout.count("trainable parameters") == 1
    assert command.stdout.count("run folder:") == 1
    assert len(re.findall("12 images of 4 classes", command.stderr)) == 1
    assert "12 images" not in command.stdout


def test_nothing_is_left_next_to_the_run(world: World, command: subprocess.CompletedProcess[str]) -> None:
    assert sorted(path.name for path in (world.root / "two").iterdir()) == [
        "adapter",
        "answers.json",
        "calibration.json",
        "config.yaml",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "state.safetensors",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_processes_do_not_matter(world: World, jobs: Path, tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = dict(JOBS[name])
    world.fit(tmp_path / "one", **changes)
    if changes.get("method") == "clip":
        two, one = result(jobs / name), result(tmp_path / "one")
        assert two["groups"] == one["groups"]
    else:  # a sum of gradients in another order is rounded otherwise, with fp16 visibly so
        assert_alike(jobs / name, tmp_path / "one", 1e-2 if name == "fp16" else 1e-5)


@pytest.mark.slow
def test_every_test_image_is_counted_once(jobs: Path) -> None:
    (group,) = result(jobs / "sgd")["groups"]
    assert group["total"] == 8
    counted = str([(group["correct"], 8)])
    assert [(jobs / f"evaluated-{rank}").read_text() for rank in range(2)] == [counted, counted]


@pytest.mark.slow
def test_a_request_to_one_process_stops_both_and_the_run_can_be_resumed(
    world: World, jobs: Path, tmp_path: Path
) -> None:
    assert all(Path(f"{jobs / INTERRUPTED}-{rank}").exists() for rank in range(2))
    world.fit(tmp_path / "one")
    assert_alike(jobs / INTERRUPTED, tmp_path / "one")

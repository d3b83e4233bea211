"""Runs and comparisons that are killed at random moments end with the numbers of undisturbed ones.

`VLMADAPT_KILLS=100 pytest -m slow tests/reliability/test_kills.py` kills 100 runs or more, of all installed methods; by
default one of each. A comparison is killed once for every 14 runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.parity import tiny_clip
from tests.training.test_resume import ANYTHING
from tests.world import OPTIONS, World, outcome
from vlmadapt import fit, registry
from vlmadapt.runs.run import Run
from vlmadapt.training import observers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
KILLS = int(os.environ.get("VLMADAPT_KILLS", "28"))
METHODS = sorted(plugin.name for plugin in registry.plugins(registry.METHODS))
EACH = -(-KILLS // len(METHODS))


def started(act: Callable[[], object]) -> BaseProcess:
    """A process that acts, with everything imported already, so that it spends its time on the run."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    return process


def go_on(world: World, folder: Path, method: str) -> None:
    """What a user does after a crash: resume the run, or start it if it had not begun."""
    (folder.parent / "done").unlink(missing_ok=True)
    if (folder / "config.yaml").exists():
        fit(ANYTHING, resume=folder)
    else:
        begin(world, folder, method)
    (folder.parent / "done").touch()


def begin(world: World, folder: Path, method: str) -> None:
    """A run with the options of the other tests, or with a method's own, which want a deeper backbone."""
    changes = {"descriptions": str(world.descriptions)}
    if method not in OPTIONS:
        changes["backbone"] = str(world.root / "deep")
    world.fit(folder, method, **changes)


@pytest.fixture(scope="module", autouse=True)
def deep(world: World) -> None:
    """A backbone of twelve blocks, as published settings want it."""
    if not (world.root / "deep").exists():
        tiny_clip.write(world.root / "deep", {**small.SETTINGS, "vision_layers": 12, "text_layers": 12, "context": 77})


@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_end_with_the_same_bits(
    world: World, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(method)
    monkeypatch.setattr(observers, "SAVE_EVERY", 0.0)  # most moments are within a save
    begin(world, tmp_path / "whole", method)
    began = time.monotonic()
    undisturbed = started(lambda: begin(world, tmp_path / "timed", method))
    undisturbed.join()
    seconds = time.monotonic() - began
    moments = set()
    for number in range(EACH):
        folder = tmp_path / str(number) / "run"
        folder.parent.mkdir()
        for _ in range(chance.choice((1, 1, 3))):  # killed again while it goes on
            process = started(partial(go_on, world, folder, method))
            time.sleep(chance.uniform(0, seconds))
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            moments.add(len(list(folder.rglob("*"))))
        if not (folder.parent / "done").exists():
            go_on(world, folder, method)
        assert outcome(folder) == outcome(tmp_path / "whole"), number
        assert not list(folder.rglob(".*.tmp")) and not (folder / ".lock").exists()
    assert len(moments) > 1 or EACH < 5


def numbers(folder: Path) -> list[Any]:
    """Accuracies of all runs of a comparison, by method and seed."""
    content = json.loads((folder / "comparison.json").read_text())
    runs = [(entry, Run(folder / entry["folder"]).result()) for entry in content["entries"]]
    return [(e["method"], e["seed"], e["error"], r and r["accuracy"]) for e, r in runs]


def test_killed_comparisons_end_with_the_same_numbers(world: World, tmp_path: Path) -> None:
    chance = random.Random("compare")
    command = [sys.executable, "-m", "vlmadapt", "compare", "--methods", "clip,coop", "--seeds", "1,2", "--shots", "2"]
    command += ["--data", str(world.pictures), "--backbone", str(world.clip), "--train.epochs", "2", "--protocol"]
    command += ["few-shot", "--jobs", "2", "--out"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, **quiet)
    seconds = time.monotonic() - began
    for number in range(KILLS // 14):
        folder = tmp_path / str(number)
        with subprocess.Popen([*command, str(folder)], **quiet) as process:
            time.sleep(chance.uniform(0, seconds))
            process.kill()
        time.sleep(6)  # the runs of a killed comparison end within seconds
        done = subprocess.run([*command, str(folder)], check=False, **quiet)
        assert done.returncode == 0, done.stderr
        assert numbers(folder) == numbers(tmp_path / "whole")

"""`torchrun --max_restarts`: a run of two processes goes on from its state after one of them was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_processes import ROOT, assert_alike
from tests.world import World
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.resumption import interrupted_run

KILLED_ONCE = """
import os, runpy, signal, sys
from vlmadapt.runs.progress import Reporter

update = Reporter.update

def killed(self, completed, numbers):
    update(self, completed, numbers)
    if completed == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)

Reporter.update = killed
runpy.run_module("vlmadapt", run_name="__main__", alter_sys=True)
"""
"""Kills the second process in the second of three epochs, at the first start only."""


# Without the last one, processes of the second attempt may find addresses that those of the first one have left.
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.mark.slow
@pytest.mark.processes
def test_a_run_ends_with_the_same_numbers_after_a_process_was_killed(tmp_path: Path) -> None:
    world = World.make(tmp_path)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max_restarts", "1"]
    arguments = world.arguments(tmp_path / "two", "mmrl")
    done = subprocess.run(
        [sys.executable, *launch, "-m", "tests.compare.code", KILLED_ONCE, *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    world.fit(tmp_path / "one")
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_only_the_same_run_is_continued_and_only_after_a_restart(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.settings(tmp_path / "run", "clip").resolved()
    world.fit(tmp_path / "run", "clip")
    assert interrupted_run(settings) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert interrupted_run(settings) == tmp_path / "run"
    with pytest.raises(VlmadaptError, match="holds a run already"):
        world.fit(tmp_path / "run", "clip", seed=2)

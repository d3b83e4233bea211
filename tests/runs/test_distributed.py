"""A process ends in one sentence, within seconds, when another process of its run has ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.world import World
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs import distributed
from vlmadapt.runs.distributed import LOST, ended_with_peers

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from tests.world import World
from vlmadapt.cli.main import main
from vlmadapt.runs.progress import Reporter

root, out, how, rank = sys.argv[1:]
original, mine = Reporter.update, os.environ["RANK"] == rank

def update(self, completed, numbers):
    original(self, completed, numbers)
    if mine and completed == 4 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mine and completed == 4 and how == "full disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

Reporter.update = update
main(World(Path(root)).arguments(Path(out)) + (["--shots", "-3"] if mine and how == "settings" else []))
"""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "many_processes", lambda: True)
    monkeypatch.setattr(distributed, "_local_peers", lambda: [])


@pytest.mark.parametrize(
    "message",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:17403",
        "NCCL error in: ProcessGroupNCCL.cpp:2690, remote process exited or there was a network error",
        "Broken pipe",
        "Timed out waiting 1800000ms for recv operation to complete",
    ],
)
def test_an_exchange_that_fails_is_one_sentence(two: None, message: str) -> None:
    with pytest.raises(VlmadaptError, match=re.escape(LOST)), ended_with_peers():
        raise RuntimeError(message)


def test_other_errors_stay_what_they_are(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"), ended_with_peers():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(distributed, "many_processes", lambda: False)
    with pytest.raises(RuntimeError, match="Broken pipe"), ended_with_peers():
        raise RuntimeError("Broken pipe")


def test_a_process_is_alive_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert distributed._alive(process.pid)
        process.kill()
        deadline = time.monotonic() + 10
        while distributed._alive(process.pid):  # not waited for: a zombie counts as ended
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_nobody_is_ended_after_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "WATCH_EVERY", 0.0)
    monkeypatch.setattr(distributed, "_alive", lambda pid: False)
    done = threading.Event()
    watch = threading.Thread(target=distributed._watch, args=([1], done))
    watch.start()
    done.set()
    watch.join()  # `os._exit` would have ended this process


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "rank", "sentences"),
    [
        ("killed", 0, {LOST}),
        ("killed", 1, {LOST}),
        (
            "full disk",
            0,
            {LOST, "'OUT/state.safetensors' cannot be written: File too large; the previous content is kept."},
        ),
        ("settings", 0, {"shots is -3, it cannot be below 0.", "stopped by SIGTERM."}),
        ("settings", 1, {"shots is -3, it cannot be below 0.", "stopped by SIGTERM."}),
    ],
)
def test_of_two_processes_the_other_one_ends_too(
    world: World, tmp_path: Path, how: str, rank: int, sentences: set[str]
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(tmp_path / "program.py"), str(world.root), str(out), how, str(rank)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode
    own, launchers = done.stderr.split("Traceback", 1)  # the launcher tells with one which process failed
    assert "torch/distributed/run.py" in launchers and "vlmadapt/" not in launchers
    said = {line.removeprefix("vlmadapt: ") for line in own.splitlines() if line.startswith("vlmadapt: ")}
    assert said == {sentence.replace("OUT", str(out)) for sentence in sentences}

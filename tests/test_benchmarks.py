"""Benchmarks keep running: the one for a GPU does so on a CPU too, at a tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.processes
def test_the_gpu_benchmark_measures_steps_testing_and_a_fit_on_a_cpu(tmp_path: Path) -> None:
    size = "--backbone tiny --cases coop:3:4 --steps 1 --fit-classes 2 --shots 2 --fit-epochs 1"
    out = ["--device", "cpu", "--out", str(tmp_path / "gpu.json"), "--picture", str(tmp_path / "gpu.png")]
    done = subprocess.run([sys.executable, str(GPU), *size.split(), *out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    (step,) = found["steps"]
    assert (step["method"], step["mode"], step["precision"], step["note"]) == ("coop", "eager", "fp32", "")
    assert step["milliseconds"] > 0
    assert step["of_product"] > 0
    assert step["kernels"] is step["busy"] is step["peak_bytes"] is None
    assert found["device"].startswith("CPU")
    assert found["fit_seconds"] > 0
    assert found["test_images_per_second"]["coop"] > 0
    assert found["left_out"] == []
    assert (tmp_path / "gpu.png").stat().st_size > 1000

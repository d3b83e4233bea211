"""Peak memory on each operating system."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vlmadapt.runs.memory import peak_memory


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.slow
def test_the_peak_grows_with_a_large_tensor_and_stays() -> None:
    before = peak_memory()
    torch.zeros(before // 4 + 2**24).add_(1)  # float32: more than all of the peak so far
    assert peak_memory() >= 1.5 * before


def test_windows_needs_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = ModuleType("psutil")
    psutil.Process = lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it raises ImportError
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert peak_memory() == 123


def test_macos_counts_in_bytes_and_others_in_kibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(Path, "is_file", lambda self: False)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2048))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory() == 2048
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert peak_memory() == 2048 * 1024

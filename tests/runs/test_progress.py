"""Progress where bars can be drawn, and in a log file."""

from __future__ import annotations

import io
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from vlmadapt.runs import notebook
from vlmadapt.runs.progress import Reporter


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reporter = Reporter()
    with reporter.bar("training", 400):
        for step in range(1, 401):
            now = 1000.0 + step
            reporter.update(step, f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 400 // 31
    assert lines[0] == "training: 31 of 400, loss 31, 31 s so far, 6 min left"
    assert not any("\r" in line for line in lines)


def test_what_is_done_at_once_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    with reporter.bar("testing", None):
        reporter.advance(3)
    assert capsys.readouterr().err == ""


def test_a_notebook_has_one_output_with_all_bars_which_is_empty_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    outputs = []

    def display(content: str, display_id: bool) -> SimpleNamespace:
        outputs.append(display_id)
        drawn.append(content)
        return SimpleNamespace(update=drawn.append)

    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", cast(Any, SimpleNamespace(HTML=str, display=display)))
    monkeypatch.setattr(notebook, "DRAW_EVERY", 0.0)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    reporter = Reporter()
    with reporter.bar("training <b>", 10):
        reporter.update(4, "loss 1")
        with reporter.bar("listing", None):
            reporter.say("a remark")
    assert outputs == [True], "one output, which is updated"
    assert drawn[1].startswith('<div><progress value="4" max="10"></progress> training &lt;b&gt;: 4 of 10, loss 1, ')
    assert drawn[2].count("<div>") == 2 and "<progress></progress> listing: 0" in drawn[2]
    assert drawn[-1] == ""
    assert capsys.readouterr() == ("a remark\n", "")


def test_bars_nest_and_the_last_one_opened_is_moved() -> None:
    reporter = Reporter()
    reporter.visible, reporter.console = True, Console(file=io.StringIO(), force_terminal=True, width=100)
    with reporter.bar("training", 10):
        reporter.update(4, "epoch 1")
        with reporter.bar("encoding validation images", 8):
            reporter.advance(8)
            bars = reporter._bars
            assert bars is not None
            assert [(t.description, t.completed) for t in bars.tasks] == [
                ("training", 4), ("encoding validation images", 8)]  # fmt: skip
        reporter.advance()
        assert [(t.description, t.completed) for t in bars.tasks] == [("training", 5)]
    assert reporter._bars is None

"""Wording that messages share."""

from __future__ import annotations

import os

import pytest

from vlmadapt.cores import usable_cores
from vlmadapt.text import counted, first_line


def test_the_first_line_of_an_error_or_its_type() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError("one"), named=True) == "ValueError: one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError(), named=True) == "ValueError"


def test_a_number_agrees_with_its_noun() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 2, 1000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert usable_cores() == 9

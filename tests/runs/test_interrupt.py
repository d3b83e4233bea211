from __future__ import annotations

import os
import signal

import pytest

from vlmadapt.runs.interrupt import SIGNALS, stop_requests


@pytest.mark.parametrize("number", SIGNALS)
def test_every_stop_signal_is_forwarded_once(number: signal.Signals) -> None:
    passed_on: list[str] = []
    before = signal.getsignal(number)
    with stop_requests(lambda: passed_on.append("stop")) as asked:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # within a second: a launcher has forwarded the same request
        assert len(asked) == 2 and passed_on == ["stop"]
    assert signal.getsignal(number) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_under_nohup_a_closed_terminal_does_not_stop_the_work() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked
    finally:
        signal.signal(signal.SIGHUP, before)

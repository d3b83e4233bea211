from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmadapt.cli import main
from vlmadapt.files import replacing
from vlmadapt.runs.interrupt import SIGNALS, Terminated, ended_by_signals, stop_requests


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


@pytest.mark.parametrize("number", [n for n in SIGNALS if n != signal.SIGINT])
def test_outside_of_training_a_signal_ends_a_command_in_one_sentence(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(main, "_main", lambda arguments: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as left:
        main.main([])
    assert left.value.code == 128 + number
    assert capsys.readouterr().err == f"vlmadapt: stopped by {number.name}.\n"
    assert signal.getsignal(number) is before


def test_the_files_that_were_being_written_are_tidied_up(tmp_path: Path) -> None:
    with pytest.raises(Terminated), ended_by_signals(), replacing(tmp_path / "a") as (temporary,):
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal was not noticed")
    assert not list(tmp_path.iterdir())


LOCK_TWICE = "mutex = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(mutex) for _ in range(2)]"
WAITS = {"in Python": "time.sleep(60)", "in a library": LOCK_TWICE}
"""Work that does not end; the second never returns to Python, which handles signals between its own steps."""


@pytest.mark.skipif(sys.platform != "linux", reason="uses a mutex of the C library")
@pytest.mark.parametrize("work", WAITS)
def test_a_program_that_is_asked_to_end_does_so_within_seconds(work: str) -> None:
    code = (
        "import ctypes, time; from vlmadapt.cli import main\n"
        f"def work(arguments):\n    print('up', flush=True)\n    {WAITS[work]}\n"
        "main._main = work; main.main([])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stdout.readline() == "up\n"
        time.sleep(0.2)
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=15)
    assert (program.returncode, said) == (143, "vlmadapt: stopped by SIGTERM.\n")

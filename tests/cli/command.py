"""The command line, called in this process or as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vlmadapt.cli.main import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def mistake(self, notes: int = 0) -> str:
        """The one line that tells a mistake of the user, after some lines that note something else."""
        assert self.code == 2, self
        line = self.err.splitlines(keepends=True)[-1]
        assert line.startswith("vlmadapt: "), self
        assert self.err.count("\n") == notes + 1, self
        assert self.err.endswith("\n"), self
        assert "Traceback" not in self.err
        assert not self.out
        return line.removeprefix("vlmadapt: ").rstrip("\n")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """Run a command in this process."""
    capsys.readouterr()
    code = 0
    try:
        main(arguments)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    printed = capsys.readouterr()
    return Said(code, printed.out, printed.err)


def program(*arguments: str, python: tuple[str, ...] = ("-m", "vlmadapt"), **environment: str) -> Said:
    """Run a command as a program of its own."""
    done = subprocess.run(
        [sys.executable, *python, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)

"""The library in separate processes, with other packages installed next to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.world import World

FIT = ("--shots", "2", "--train.epochs", "1", "--train.batch_size", "4", "--workers", "0")


def where(world: World) -> tuple[str, ...]:
    """Its pictures and its backbone, for the command line."""
    return "--data", str(world.pictures), "--backbone", str(world.clip)


def install(package: Path, site: Path) -> dict[str, str]:
    """Install a package into a folder of its own; returns the environment that sees it. Needs no network."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, timeout=300)
    return with_site(site)


def with_site(site: Path) -> dict[str, str]:
    """An environment in which the distributions in a folder are installed too."""
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def python(environment: Mapping[str, str], *arguments: str, cwd: Path | None = None, code: int = 0) -> str:
    """What Python says; it has to exit with `code`."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


SESSION = """
import json, sys
from vlmadapt.cli.main import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        print("exit code", end.code)
"""


def session(environment: Mapping[str, str], *commands: Sequence[str]) -> str:
    """What `vlmadapt` says to several commands in one process, which saves importing torch for each."""
    return python(environment, "-c", SESSION, json.dumps(commands))


def cli(environment: Mapping[str, str], *arguments: str, cwd: Path | None = None, code: int = 0) -> str:
    """What `vlmadapt` says; it has to exit with `code`."""
    return python(environment, "-m", "vlmadapt", *arguments, cwd=cwd, code=code)

"""docs/plugin-guide.md: every block is run, in order, and what it builds is the example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "vlmadapt-bias"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Installing needs no network and leaves this environment as it is.
PIP = 'pip() { "$PYTHON" -m pip install -q --no-deps --no-build-isolation --target "$SITE" "${@: -1}"; }\nset -e\n'


@dataclass(frozen=True)
class Block:
    language: str
    file: str | None
    text: str


def blocks() -> list[Block]:
    found = BLOCK.findall((ROOT / "docs" / "plugin-guide.md").read_text())
    return [Block(language, file or None, text) for language, file, text in found]


def write(folder: Path) -> None:
    """Write the blocks that are files; what follows in a file is set apart as Python wants it."""
    for block in blocks():
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text() + ("\n" if block.text.startswith(" ") else "\n\n") if path.exists() else ""
            path.write_text(before + block.text)


def test_every_block_is_a_file_or_a_command() -> None:
    assert {block.language for block in blocks() if not block.file} == {"bash"}


def test_the_files_are_the_example(tmp_path: Path) -> None:
    write(tmp_path)
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert written
    for path, text in written.items():
        assert (EXAMPLE / path).read_text() == text, path


@pytest.mark.slow
@pytest.mark.processes
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, site = tmp_path / "vlmadapt-bias", tmp_path / "site"
    write(package)
    script = PIP + "".join(block.text for block in blocks() if not block.file)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(site),
        "SITE": str(site),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=package, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A trained vector is added" in done.stdout
    assert "FAIL" not in done.stdout
    assert (package / "run" / "adapter" / "adapter_config.json").is_file()

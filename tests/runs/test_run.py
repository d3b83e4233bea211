"""Files of a run folder: shapes, checksums, and which folder may be started in."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import call
from vlmadapt import FitResult, VlmadaptError
from vlmadapt.runs.run import Run


@pytest.fixture
def run(base_to_novel: FitResult, tmp_path: Path) -> Run:
    shutil.copytree(base_to_novel.folder, tmp_path / "run")
    return Run.open(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.yaml", Run.settings),
        ("environment.json", Run.environment),
        ("data.json", Run.manifest),
        ("metrics.jsonl", Run.metrics),
        ("answers.json", Run.answers),
    ],
)
def test_a_file_that_was_changed_after_the_run_ended_is_refused(run: Run, name: str, read: Any) -> None:
    assert read(run)
    text = (run.folder / name).read_text()
    (run.folder / name).write_text(text.replace("1", "2", 1))
    with pytest.raises(VlmadaptError, match=f"{name}' is damaged .it was changed after the run ended"):
        read(run)


def test_a_changed_number_of_a_result_is_refused(run: Run) -> None:
    content = json.loads((run.folder / "result.json").read_text())
    content["accuracy"]["base"] += 1
    (run.folder / "result.json").write_text(json.dumps(content))
    with pytest.raises(VlmadaptError, match=r"result.json' is damaged .its checksum is another one"):
        run.result()


def test_a_result_of_an_older_version_has_no_checksum(run: Run) -> None:
    content = json.loads((run.folder / "result.json").read_text())
    old = {key: value for key, value in content.items() if key not in ("format", "files", "sha256")}
    (run.folder / "result.json").write_text(json.dumps(old))
    assert run.result() == old
    (run.folder / "result.json").write_text(json.dumps({**content, "format": 3}))
    with pytest.raises(VlmadaptError, match="it has format 3; this version reads up to 2"):
        run.result()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize("name", ["config.yaml", "data.json", "environment.json"])
def test_a_pipe_does_not_make_a_command_wait(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (run.folder / name).unlink()
    os.mkfifo(run.folder / name)
    assert call(capsys, "evaluate", str(run.folder)).mistake()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b"a: &a [1]\nb: [*a, *a]\n", b""])
@pytest.mark.parametrize("name", ["config.yaml", "data.json", "environment.json", "result.json"])
def test_what_is_no_file_of_a_run_is_one_sentence(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes
) -> None:
    (run.folder / "result.json").unlink()
    (run.folder / name).write_bytes(content)
    told = call(capsys, "report", str(run.folder), "--out", str(tmp_path / "report.html"))
    assert name in told.mistake() or "no run" in told.mistake()


def test_a_run_that_saved_nothing_can_be_started_again_and_any_other_cannot(run: Run) -> None:
    for name in ("state.safetensors", "result.json"):
        with pytest.raises(VlmadaptError, match="holds a run already; continue it with `vlmadapt fit --resume"):
            Run.new(run.folder)
        (run.folder / name).unlink()
    with pytest.raises(VlmadaptError, match="holds a run already"):
        Run.new(run.folder)
    shutil.rmtree(run.adapter)
    assert Run.new(run.folder).folder == run.folder

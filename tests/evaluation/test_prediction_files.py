"""Files of predictions say what is wrong with them, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.prediction_files import prediction_file


def test_an_error_of_another_file_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    """`predict --out found.csv --json | head` ends because of the pipe."""
    with pytest.raises(BrokenPipeError), prediction_file(tmp_path / "found.csv", 1):
        raise BrokenPipeError
    assert [path.name for path in tmp_path.iterdir()] == ["found.csv.part"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/found.csv", "x" * 300 + ".jsonl"):
        with pytest.raises(VlmadaptError, match="cannot be written"), prediction_file(tmp_path / name, 1):
            pass

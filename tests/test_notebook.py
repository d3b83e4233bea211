"""The notebook in `examples/` runs from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first-run.ipynb"


@pytest.mark.slow
def test_every_cell_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["numbers"]["all"] > 5 * names["result"].numbers["chance"]["all"]
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "why.png").is_file()


def test_it_holds_no_output() -> None:
    """Outputs of one machine would look like promises."""
    assert all(not cell.get("outputs") for cell in json.loads(NOTEBOOK.read_text())["cells"])

"""One data root with all 15 data sets in little."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks_data.layouts import LAYOUTS


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for make in LAYOUTS.values():
        make(folder)
    return folder

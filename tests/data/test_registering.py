"""The data set that docs/data.md registers, as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import class_folder
from vlmadapt.errors import DataError

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def birds() -> Any:
    (code,) = re.findall(r'^```python\n("""birds\.py.*?)^```$', PAGE.read_text(encoding="utf-8"), re.M | re.S)
    module: dict[str, Any] = {}
    exec(compile(code, "birds.py", "exec"), module)
    return module["birds"]


def test_the_example_of_the_page_reads_a_folder_and_names_what_is_missing(birds: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"birds/train' is missing; get it from"):
        birds.load(tmp_path)
    assert [step.done for step in birds.steps(tmp_path)] == [False]
    for part, count in (("train", 3), ("test", 2)):
        for name in ("wren", "robin"):
            class_folder(tmp_path / "birds" / part / name, count)
    data = birds.load(tmp_path)
    assert [example.label for example in data.train] == [0, 0, 0, 1, 1, 1]
    assert (len(data.test), data.classes) == (4, ("robin", "wren"))
    assert [step.done for step in birds.steps(tmp_path)] == [True]

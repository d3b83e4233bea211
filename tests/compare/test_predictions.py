from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compare import fake
from vlmadapt.compare.compare import make_results
from vlmadapt.compare.predictions import read_correct, read_predictions
from vlmadapt.errors import VlmadaptError
from vlmadapt.report.report import report
from vlmadapt.runs.run import Run


def test_correctness_of_each_image(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("coop",), seeds=(1,))
    path = made.entries[0].folder / "answers.json"
    path.write_text(json.dumps([{**group, "chosen": [0] * 40} for group in json.loads(path.read_text())]))
    assert read_correct(made.entries[0])["base"].correct.tolist() == [1.0, 0.0] * 20  # labels alternate 0, 1


def test_a_run_without_answers_has_none(tmp_path: Path) -> None:
    run = Run(fake.run(tmp_path / "run", "coop", "alpha", 16, 1, 0.7))
    (run.folder / "answers.json").unlink()
    assert read_predictions(run) == []


def without(*names: str) -> Callable[[Any], Any]:
    return lambda content: {key: value for key, value in content.items() if key not in names}


DAMAGES: list[tuple[str, Callable[[Any], Any] | str, str]] = [
    ("result", "{", "result.json' is damaged"),
    ("result", "[]", "result.json' is damaged .it is no JSON object"),
    ("result", without("accuracy"), "'accuracy' is missing"),
    ("result", without("peak_memory_bytes"), "'peak_memory_bytes' is missing"),
    ("result", lambda c: c | {"accuracy": {"base": "high"}}, "'accuracy.base' is no finite number"),
    ("environment", "", "environment.json' is damaged"),
    ("environment", without("libraries"), "'libraries' is missing"),
    ("answers", "nonsense", "answers.json' is damaged"),
    ("answers", "{}", "it is no list"),
    ("answers", lambda c: [{**c[0], "name": "other"}, *c[1:]], "answers.json' does not fit data.json"),
    ("answers", lambda c: [{**c[0], "chosen": c[0]["chosen"][1:]}, *c[1:]], "answers.json' does not fit data.json"),
    ("answers", lambda c: [{**c[0], "chosen": [7] * 40}, *c[1:]], "answers.json' does not fit data.json"),
    ("answers", lambda c: [{**c[0], "chosen": ["x"] * 40}, *c[1:]], r"'\[0\].chosen\[0\]' is no whole number"),
    ("data", "[1]", "data.json' is damaged"),
    ("data", lambda c: {**c, "test": [{"name": "base"}]}, "data.json' is damaged"),
    ("data", lambda c: {**c, "test": 3}, "data.json' is damaged"),
    ("metrics", "{}", "metrics.jsonl' is damaged"),
]


@pytest.mark.parametrize(("file", "damage", "said"), DAMAGES)
def test_a_damaged_file_of_a_run_is_one_sentence(
    tmp_path: Path, file: str, damage: Callable[[Any], Any] | str, said: str
) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop"), seeds=(1,))
    path = made.entries[1].folder / (f"{file}.jsonl" if file == "metrics" else f"{file}.json")
    path.write_text(damage if isinstance(damage, str) else json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(VlmadaptError, match=said) as refused:
        if file == "metrics":
            report([tmp_path], tmp_path / "report.html")
        else:
            make_results(made)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)

"""Published kinds of numbers, each computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.compare import fake
from vlmadapt.compare.aggregate import MeanStd, ResultRow, main_metric, make_rows
from vlmadapt.compare.record import Comparison


def compared(folder: Path, accuracies: Mapping[tuple[str, int], Mapping[str, float]]) -> Comparison:
    """A comparison of one method with these accuracies by data set and seed."""
    data = tuple(dict.fromkeys(name for name, _ in accuracies))
    seeds = tuple(dict.fromkeys(seed for _, seed in accuracies))
    made = fake.comparison(folder, ("coop",), data, seeds)
    for entry in made.entries:
        path = entry.folder / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": accuracies[entry.data, entry.seed]}))
    return made


def test_mean_and_sample_standard_deviation_over_seeds(tmp_path: Path) -> None:
    made = compared(tmp_path, {("a", 1): {"all": 70.0}, ("a", 2): {"all": 73.0}, ("a", 3): {"all": 79.0}})
    (row,) = make_rows(made)
    # mean 222 / 3; squared deviations 16 + 1 + 25 over n - 1 = 2
    assert row.accuracy["all"].mean == pytest.approx(74.0)
    assert row.accuracy["all"].std == pytest.approx(21.0**0.5)
    assert row.seeds == (1, 2, 3)


def test_the_harmonic_mean_is_that_of_the_mean_base_and_novel_accuracy(tmp_path: Path) -> None:
    made = compared(
        tmp_path,
        {
            ("a", 1): {"base": 80.0, "novel": 40.0, "harmonic_mean": 53.3333},
            ("a", 2): {"base": 40.0, "novel": 80.0, "harmonic_mean": 53.3333},
        },
    )
    (row,) = make_rows(made)
    # base and novel are 60 on average; the mean of the harmonic means would be 53.33
    assert row.accuracy["harmonic_mean"].mean == pytest.approx(60.0)
    assert row.accuracy["harmonic_mean"].std == pytest.approx(0.0)


def test_the_average_over_data_sets_weighs_them_equally_and_its_harmonic_mean_follows(tmp_path: Path) -> None:
    made = compared(
        tmp_path,
        {
            ("a", 1): {"base": 90.0, "novel": 60.0, "harmonic_mean": 72.0},
            ("b", 1): {"base": 70.0, "novel": 20.0, "harmonic_mean": 31.1111},
        },
    )
    average = make_rows(made)[-1]
    assert average.data == ("a", "b")
    assert (average.accuracy["base"].mean, average.accuracy["novel"].mean) == (80.0, 40.0)
    # 2 * 80 * 40 / 120; the mean of the two harmonic means would be 51.56
    assert average.accuracy["harmonic_mean"].mean == pytest.approx(160 / 3)
    assert average.accuracy["base"].std is None


def test_methods_are_ranked_by_the_harmonic_mean_or_the_average_over_targets() -> None:
    def row(*names: str) -> ResultRow:
        return ResultRow("coop", ("a",), 16, (1,), dict.fromkeys(names, MeanStd(1.0)))

    assert main_metric([row("base", "novel", "harmonic_mean")]) == "harmonic_mean"
    assert main_metric([row("imagenet", "dtd", "target_average")]) == "target_average"
    assert main_metric([row("all")]) == "all"


def test_seeds_are_only_compared_on_groups_that_all_of_them_tested(tmp_path: Path) -> None:
    made = compared(tmp_path, {("a", 1): {"a": 50.0, "dtd": 10.0}, ("a", 2): {"a": 60.0}})
    (row,) = make_rows(made)
    assert row.accuracy == {"a": MeanStd(55.0, cast(float, pytest.approx(50.0**0.5)))}

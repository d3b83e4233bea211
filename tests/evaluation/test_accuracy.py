from __future__ import annotations

import pytest

from vlmadapt.evaluation.accuracy import Accuracy, harmonic_mean, summary
from vlmadapt.roles import Role


def group(name: str, correct: int, total: int) -> Accuracy:
    return Accuracy(name, Role.SEEN, correct, total, {}, 1.0)


def test_the_harmonic_mean_of_base_and_novel() -> None:
    assert harmonic_mean(80.0, 40.0) == pytest.approx(160 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
    found = summary([group("base", 8, 10), group("novel", 4, 10)])
    assert found == {"base": 80.0, "novel": 40.0, "harmonic_mean": 53.3333}


def test_the_target_average_counts_every_target_and_not_the_data_trained_on() -> None:
    groups = [group("imagenet", 9, 10), group("dtd", 1, 10), group("eurosat", 4, 10), group("food101", 30, 40)]
    # (10 + 40 + 75) / 3, each target with the same weight
    assert summary(groups) == {
        "imagenet": 90.0,
        "dtd": 10.0,
        "eurosat": 40.0,
        "food101": 75.0,
        "target_average": 41.6667,
    }


def test_one_target_has_no_average() -> None:
    assert summary([group("openmoji", 1, 2), group("outline", 1, 4)]) == {"openmoji": 50.0, "outline": 25.0}

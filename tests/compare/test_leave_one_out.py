from __future__ import annotations

import numpy as np
import pytest

from tests.compare.test_bootstrap import measured
from vlmadapt.compare.leave_one_out import leave_one_out
from vlmadapt.compare.measured import Measured
from vlmadapt_published import alignednorm_reruns


def reruns() -> Measured:
    """The numbers that AlignedNorm's paper prints, as one seed on eleven data sets."""
    single = [p for p in alignednorm_reruns() if len(p.data) == 1 and p.source.startswith("AlignedNorm paper")]
    data = sorted({name for p in single for name in p.data})
    methods = ("mmrl", "mmrl++", "alignednorm")
    found = {(p.method, next(iter(p.data))): (p.values["base"], p.values["novel"]) for p in single}
    accuracy = np.array([[[found[method, name]] for name in data] for method in methods])
    return Measured("harmonic_mean", methods, tuple(data), (1,), accuracy, (None,) * len(data))


def test_the_published_ranking_hangs_on_one_data_set() -> None:
    whole, *others = leave_one_out(reruns())
    assert {name: round(score, 2) for name, score in whole.scores.items()} == {
        "alignednorm": 81.45,
        "mmrl++": 81.43,
        "mmrl": 80.72,
    }
    without = next(ranking for ranking in others if ranking.without == "eurosat")
    assert {name: round(score, 2) for name, score in without.scores.items()} == {
        "mmrl++": 80.61,
        "alignednorm": 80.48,
        "mmrl": 80.48,
    }
    assert without.best == "mmrl++" and ("mmrl++", "alignednorm") in without.turned
    assert whole.best == "alignednorm" and whole.turned == ()


def test_a_ranking_without_each_data_set_by_hand() -> None:
    # averages: a 60, b 59; without the last data set a 55, b 58
    accuracy = np.array([[50.0, 60.0, 70.0], [55.0, 61.0, 61.0]]).reshape(2, 3, 1, 1)
    whole, *others = leave_one_out(measured(accuracy))
    assert whole.scores == pytest.approx({"m0": 60, "m1": 59}) and [r.best for r in others] == ["m0", "m0", "m1"]
    assert others[2].scores == pytest.approx({"m1": 58, "m0": 55}) and others[2].turned == (("m1", "m0"),)


def test_two_data_sets_are_too_few() -> None:
    assert leave_one_out(measured(np.zeros((2, 2, 3, 1)))) == ()

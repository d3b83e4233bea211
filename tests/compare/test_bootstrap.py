"""The hierarchical bootstrap against variances and coverages that are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vlmadapt.compare import bootstrap
from vlmadapt.compare.bootstrap import probability_of_best, resample_fixed, resample_sets, tail
from vlmadapt.compare.measured import Measured

Floats = NDArray[np.float64]


def measured(accuracy: Floats, correct: tuple[tuple[Floats, ...] | None, ...] = (), metric: str = "all") -> Measured:
    """Results of accuracies (M, D, S, G)."""
    methods, sets, seeds, _ = accuracy.shape
    names = tuple(f"m{i}" for i in range(methods)), tuple(f"d{i}" for i in range(sets))
    return Measured(metric, *names, tuple(range(seeds)), accuracy, correct or (None,) * sets)


def answers(rng: np.random.Generator, accuracy: Floats, images: int) -> tuple[tuple[Floats, ...], ...]:
    """Drawn answers for accuracies (M, D, S, G)."""
    right = 100 * rng.random((*accuracy.shape, images)) < accuracy[..., None]
    return tuple(tuple(np.moveaxis(of_set, 2, 0).astype(float)) for of_set in np.moveaxis(right, 1, 0))


def of_answers(correct: tuple[tuple[Floats, ...], ...], metric: str = "all") -> Measured:
    accuracy = np.array([[100 * group.mean(axis=-1) for group in groups] for groups in correct])
    return measured(accuracy.transpose(2, 0, 3, 1), correct, metric)


def test_the_variance_is_that_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 10_000)
    rng = np.random.default_rng(1)
    true = 60 + 8 * rng.standard_normal((1, 6, 1, 1)) + 3 * rng.standard_normal((1, 6, 4, 1))
    found = of_answers(answers(rng, true, 50))
    one = found.accuracy[0, :, :, 0]
    seeds = one.var(axis=1, ddof=1).mean() / 4
    # three of four seeds are drawn: expected products of the weights of two seeds
    products = 1 / 16 + (np.eye(4) / 4 - 1 / 16) / 3
    covariances = [np.cov(100 * groups[0][0], bias=True) for groups in found.correct if groups]
    images = np.mean([(products * covariance).sum() / 50 for covariance in covariances])
    fixed = resample_fixed(found)[:, 0, 0].var()
    assert fixed == pytest.approx((seeds + images) / 6, rel=0.05)
    sets = one.mean(axis=1).var(ddof=1)
    assert resample_sets(found)[:, 0, 0].var() == pytest.approx(sets / 6 + 6 * fixed / 5, rel=0.05)


def test_draws_are_the_same_for_all_methods() -> None:
    rng = np.random.default_rng(2)
    one = answers(rng, np.full((1, 5, 3, 2), 70.0), 30)
    twice = tuple(tuple(np.concatenate([group, group]) for group in groups) for groups in one)
    found = of_answers(twice, "harmonic_mean")
    for drawn in (resample_sets(found), resample_fixed(found)):
        scores = found.score(drawn)
        assert np.array_equal(scores[:, 0], scores[:, 1]) and scores[:, 0].std() > 0
        assert probability_of_best(scores).tolist() == [0.5, 0.5]


def test_without_variation_nothing_varies() -> None:
    found = measured(np.array([50.0, 51.0]).reshape(2, 1, 1, 1) + np.zeros((2, 5, 3, 1)))
    assert np.ptp(resample_sets(found), axis=0).max() == 0
    assert probability_of_best(found.score(resample_sets(found))).tolist() == [0, 1]


@pytest.mark.parametrize(("of_sets", "of_seeds"), [(2.0, 0.1), (0.5, 2.0)])
def test_intervals_over_data_sets_hold_the_truth_as_often_as_they_say(
    of_sets: float, of_seeds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)
    rng = np.random.default_rng(3)
    low_tail = tail(11)
    held = 0
    for _ in range(200):  # two methods that differ by 1 point in truth, and by chance from set to set and seed to seed
        noise = of_sets * rng.standard_normal((2, 11, 1, 1)) + of_seeds * rng.standard_normal((2, 11, 3, 1))
        accuracy = 70 + np.array([0.0, 1.0]).reshape(2, 1, 1, 1) + noise
        low, high = np.quantile(np.diff(resample_sets(measured(accuracy))[..., 0]), (low_tail, 1 - low_tail))
        held += low <= 1 <= high
    assert held / 200 >= 0.93


def test_tails_by_the_tables_of_student_and_of_the_normal_distribution() -> None:
    assert tail() == pytest.approx(0.025)
    assert tail(11) == pytest.approx(0.01295, rel=0.01)  # Phi(-2.228)
    assert tail(10_000) == pytest.approx(0.025, rel=0.01)

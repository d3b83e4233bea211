from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from tests.compare.test_bootstrap import measured, of_answers
from vlmadapt.compare.variance import Advice, VarianceSplit, advise, split_variance


def test_components_worked_by_hand() -> None:
    # differences of two seeds on three data sets: means 1, 3, 5 with variances 2, 2, 8
    difference = np.array([[0.0, 2.0], [2.0, 4.0], [3.0, 7.0]])
    accuracy = np.stack([np.full((3, 2), 50.0), 50 + difference])[..., None]
    found = split_variance(measured(accuracy), 1)
    assert found.difference == pytest.approx(3)
    assert found.seeds == pytest.approx(4) and found.images is None
    assert found.sets == pytest.approx(4 - 4 / 2)  # the means vary by 4, of which two seeds explain 2
    assert found.shares(2) == pytest.approx({"data sets": 0.5, "seeds": 0.5})
    assert found.standard_error(3, 2) == pytest.approx((4 / 3) ** 0.5)
    assert found.standard_error(3, 2, same_sets=True) == pytest.approx((2 / 3) ** 0.5)


def test_components_of_drawn_numbers_are_found() -> None:
    rng = np.random.default_rng(0)
    sets, seeds, images = 300, 4, 60
    # Chances of a right answer: by data set and seed, and by image alone.
    chance = 0.5 + 0.1 * rng.standard_normal((sets, 1, 1)) + 0.05 * rng.standard_normal((sets, seeds, 1))
    of_image = 0.3 * rng.choice([-1, 1], (sets, 1, images))
    drawn = (rng.random((sets, seeds, images)) < np.clip(chance + of_image, 0, 1)).astype(float)
    zero = np.zeros((seeds, images))
    found = split_variance(of_answers(tuple((np.stack([zero, one]),) for one in drawn)), 1)
    assert found.sets == pytest.approx(100, rel=0.25)
    assert found.images == pytest.approx(900 / images, rel=0.1)
    # what an image's answer varies between seeds, p (1 - p), adds to the seeds
    left = np.clip(chance + of_image, 0, 1)
    assert found.seeds == pytest.approx(25 + 10_000 * (left * (1 - left)).mean() / images, rel=0.1)


def test_a_harmonic_mean_is_split_as_its_linear_approximation() -> None:
    rng = np.random.default_rng(1)
    accuracy = np.array([80.0, 40.0]) + np.array([1.0, 1.0]) * 0.1 * rng.standard_normal((2, 8, 3, 1))
    found = measured(accuracy, metric="harmonic_mean")
    exact = found.score(accuracy)
    split = split_variance(found, 1)
    assert split.seeds == pytest.approx((exact[1] - exact[0]).var(axis=1, ddof=1).mean(), rel=0.02)


def test_advice_is_the_smallest_experiment_with_the_power() -> None:
    split = VarianceSplit("mmrl", 1.0, 4.0, 6.0, 1.0)
    found = advise(split, 11, 3, general=True)
    assert found.sets is not None and found.seeds is None

    def power(sets: int) -> float:
        return float(1 / ((4 + 6 / 3 + 1) / sets) ** 0.5 - t.ppf(0.975, sets - 1) - t.ppf(0.8, sets - 1))

    assert power(11 + found.sets) >= 0 > power(11 + found.sets - 1)
    alone = advise(split, 11, 3, general=False)
    assert alone.sets is None and alone.seeds is not None

    def power_of_seeds(seeds: int) -> float:
        return float(1 / ((6 / seeds + 1) / 11) ** 0.5 - norm.ppf(0.975) - norm.ppf(0.8))

    assert power_of_seeds(3 + alone.seeds) >= 0 > power_of_seeds(3 + alone.seeds - 1)


def test_a_difference_of_nothing_is_never_shown() -> None:
    assert advise(VarianceSplit("mmrl", 0.0, 4.0, 1.0, 1.0), 11, 3, general=True) == Advice("mmrl", True, None, None)

"""Scores of classes, computed by hand."""

from __future__ import annotations

import pytest

from vlmadapt.evaluation.by_class import ClassScores, class_scores, macro_average

CONFUSION = {"cat": {"cat": 3, "dog": 1}, "dog": {"cat": 2, "dog": 2}, "owl": {"cat": 1}, "newt": {}}


def test_precision_recall_and_f1_of_each_class() -> None:
    assert class_scores(CONFUSION) == {
        "cat": ClassScores(4, 3 / 6, 3 / 4, 6 / 10),
        "dog": ClassScores(4, 2 / 3, 2 / 4, 4 / 7),
        "owl": ClassScores(1, None, 0.0, 0.0),
        "newt": ClassScores(0, None, None, None),
    }


def test_the_mean_over_classes_leaves_undefined_numbers_out() -> None:
    found = macro_average(class_scores(CONFUSION).values())
    assert found.images == 9
    assert found.precision == pytest.approx((3 / 6 + 2 / 3) / 2)
    assert found.recall == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)
    assert found.f1 == pytest.approx((6 / 10 + 4 / 7 + 0) / 3)
    assert macro_average([]) == ClassScores(0, None, None, None)

"""Rankings without one data set at a time: which of them a ranking depends on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from vlmadapt.compare.measured import DECIMALS, Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENOUGH = 3
"""Fewest data sets of which one is left out."""


@dataclass(frozen=True)
class Ranking:
    """Methods by their average, best first.

    Attributes:
        without: data set that is left out; empty for the ranking over all.
        scores: average by method, best first.
        turned: pairs of methods (now better, now worse) whose order is another than over all data sets.
    """

    without: str
    scores: dict[str, float]
    turned: tuple[tuple[str, str], ...] = ()

    @property
    def best(self) -> str:
        """The best method."""
        return next(iter(self.scores))


def leave_one_out(measured: Measured) -> tuple[Ranking, ...]:
    """The ranking over all data sets, then one without each of them; empty for few data sets or a single method."""
    import numpy as np

    if len(measured.data) < ENOUGH or len(measured.methods) < 2:
        return ()
    accuracy = measured.accuracy.mean(axis=2)
    whole = measured.average_scores
    rankings = [_ranking("", measured, whole, whole)]
    for i, data in enumerate(measured.data):
        rest = measured.score(np.delete(accuracy, i, axis=1).mean(axis=1)).round(DECIMALS)
        rankings.append(_ranking(data, measured, rest, whole))
    return tuple(rankings)


def _ranking(without: str, measured: Measured, scores: NDArray[np.float64], whole: NDArray[np.float64]) -> Ranking:
    names = measured.methods
    order = sorted(range(len(names)), key=lambda i: (-scores[i], i))
    turned = tuple((names[a], names[b]) for a, b in combinations(order, 2) if whole[a] < whole[b])
    return Ranking(without, {names[i]: float(scores[i]) for i in order}, turned)

"""What a paper reports, so that it can stand beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """Accuracies of one method that a paper reports; an entry point of `vlmadapt.published` gives a sequence of these.

    Attributes:
        source: where they are printed.
        method: registered name of the method.
        protocol: of the runs.
        data: registered names of the data sets that were averaged over, mostly a single one.
        backbones: names under which the backbone of the paper is loaded.
        shots: training images per class.
        values: percent by what was tested, named as in a run's result ('base', 'novel', 'harmonic_mean', 'all').
        flaws: for values that do not follow from the ones they should follow from, what these would give.
    """

    source: str
    method: str
    protocol: str
    data: frozenset[str]
    backbones: frozenset[str]
    shots: int
    values: Mapping[str, float]
    flaws: Mapping[str, float] = field(default_factory=dict)

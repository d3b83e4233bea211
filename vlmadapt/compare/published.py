"""Published numbers, shown next to measured ones if protocol, data, shots and backbone are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from vlmadapt import registry
from vlmadapt.compare.aggregate import ResultRow
from vlmadapt.compare.record import Comparison


@dataclass(frozen=True)
class Published:
    """Accuracies of one method that a paper reports; an entry point of `vlmadapt.published` gives a sequence of these.

    Attributes:
        source: paper and table that print them.
        method: registered name of the method.
        protocol: evaluation protocol.
        data: registered names of the data sets averaged over, mostly a single one.
        backbones: names under which the backbone of the paper is loaded.
        shots: training images per class.
        values: percent by tested group, named as in a run's result ('base', 'novel', 'harmonic_mean', 'all').
        flaws: for each value that contradicts the values it is computed from, the value that they give.
        rerun_by: third party that ran the method again; empty for numbers of the method's own authors and for those
            that papers quote of each other.
    """

    source: str
    method: str
    protocol: str
    data: frozenset[str]
    backbones: frozenset[str]
    shots: int
    values: Mapping[str, float]
    flaws: Mapping[str, float] = field(default_factory=dict)
    rerun_by: str = ""


@dataclass(frozen=True)
class Leak:
    """What a method's published numbers knew of the images or data they are tested on; given like `Published`.

    Attributes:
        method: registered name of the method.
        what: statement about the published code.
        source: repository and file that show it.
    """

    method: str
    what: str
    source: str


def match(row: ResultRow, comparison: Comparison) -> Published | None:
    """The published numbers for a row, None if there are none."""
    return next((found for found in _matching(row, comparison) if not found.rerun_by), None)


def reruns(row: ResultRow, comparison: Comparison) -> list[Published]:
    """Numbers for a row that third parties measured with the published code."""
    return [found for found in _matching(row, comparison) if found.rerun_by]


def _matching(row: ResultRow, comparison: Comparison) -> Iterator[Published]:
    for found in _read()[0]:
        same_run = (found.method, found.protocol, found.shots) == (row.method, comparison.protocol, row.shots)
        if same_run and found.data == frozenset(row.data) and comparison.backbone in found.backbones:
            yield found


def leaks_of(method: str) -> list[Leak]:
    """Known leaks of a method's published numbers."""
    return [leak for leak in _read()[1] if leak.method == method]


def broken_plugins() -> tuple[str, ...]:
    """Messages of the plugins whose published numbers could not be read."""
    return _read()[2]


@cache
def _read() -> tuple[tuple[Published, ...], tuple[Leak, ...], tuple[str, ...]]:
    found: list[Published | Leak] = []
    broken: list[str] = []
    for plugin in registry.plugins(registry.PUBLISHED):
        try:
            found += plugin.load()()
        except Exception as error:  # a broken plugin must not prevent the tables of a comparison
            broken.append(f"{plugin}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    numbers = tuple(one for one in found if isinstance(one, Published))
    return numbers, tuple(one for one in found if isinstance(one, Leak)), tuple(broken)

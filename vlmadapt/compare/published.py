"""Published numbers beside measured ones, where protocol, data, shots and backbone are the same."""

from __future__ import annotations

from functools import cache

from vlmadapt import registry
from vlmadapt.compare.aggregate import Row
from vlmadapt.compare.published_table import Published
from vlmadapt.compare.record import Comparison


def match(row: Row, comparison: Comparison) -> Published | None:
    """What was published for a row, None where nothing was."""
    for found in _read()[0]:
        same_run = (found.method, found.protocol, found.shots) == (row.method, comparison.protocol, row.shots)
        if same_run and found.data == frozenset(row.data) and comparison.backbone in found.backbones:
            return found
    return None


def broken_plugins() -> tuple[str, ...]:
    """Why some published numbers could not be read."""
    return _read()[1]


@cache
def _read() -> tuple[tuple[Published, ...], tuple[str, ...]]:
    found: list[Published] = []
    broken: list[str] = []
    for plugin in registry.plugins(registry.PUBLISHED):
        try:
            found += plugin.load()()
        except Exception as error:  # whatever a plugin does wrong must not cost a comparison its tables
            broken.append(f"{plugin}: {error}")
    return tuple(found), tuple(broken)

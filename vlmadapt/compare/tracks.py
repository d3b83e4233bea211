"""Methods of a comparison by track. Every table, ranking and chart is about one of these parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, TypeVar

from vlmadapt.compare.record import Comparison
from vlmadapt.errors import PluginError
from vlmadapt.registry.listing import plugin_info
from vlmadapt.registry.source_info import SourceInfo
from vlmadapt.registry.tracks import FEW_SHOT, named, ordered


class OfMethod(Protocol):
    """Any result of a method."""

    @property
    def method(self) -> str:
        """Registered name."""
        ...


R = TypeVar("R", bound=OfMethod)


@dataclass(frozen=True)
class TrackPart:
    """The methods of one track, with zero-shot methods that need class names alone: these stand in every track.

    Attributes:
        track: as its methods state it.
        title: the track in titles; "" if the whole comparison has the track of labelled images alone.
        comparison: their runs. The first method is the reference: the comparison's own if it is of this track,
            otherwise zero-shot if there is one.
    """

    track: str
    title: str
    comparison: Comparison

    def own(self, results: Iterable[R]) -> list[R]:
        """The results of its methods, in the order given."""
        methods = set(self.comparison.methods)
        return [result for result in results if result.method in methods]


def by_track(comparison: Comparison) -> list[TrackPart]:
    """A part for each track; one of zero-shot methods alone only if there is no other."""
    tracks = {method: track_of(comparison, method) for method in comparison.methods}
    everywhere = {method for method in comparison.methods if _needs_names_alone(method)}
    found = ordered(track for method, track in tracks.items() if method not in everywhere)
    parts = []
    for track in found or [FEW_SHOT]:
        entries = [e for e in comparison.entries if tracks[e.method] == track or e.method in everywhere]
        if comparison.methods[0] not in {entry.method for entry in entries}:
            entries.sort(key=lambda entry: entry.method not in everywhere)
        parts.append(TrackPart(track, named(track, found), replace(comparison, entries=tuple(entries))))
    return parts


def track_of(comparison: Comparison, method: str) -> str:
    """The track that the method's runs note; without a finished run the one that its source states."""
    for entry in comparison.entries:
        if entry.method == method and (result := entry.result()) and "track" in result:
            return str(result["track"])
    source = _source(method)
    return FEW_SHOT if source is None else source.track


def tracks_note(parts: Sequence[TrackPart]) -> list[str]:
    """Which methods are of which track, if there are several."""
    if len(parts) < 2:
        return []
    shared = set.intersection(*(set(part.comparison.methods) for part in parts))
    own = "; ".join(
        f"{part.title}: {', '.join(method for method in part.comparison.methods if method not in shared)}"
        for part in parts
    )
    stands = f" {', '.join(sorted(shared))} (zero-shot) stands in each." if shared else ""
    return [f"Tracks, which are neither ranked nor tested against each other: {own}.{stands}"]


def _needs_names_alone(method: str) -> bool:
    source = _source(method)
    return source is not None and not source.learns and source.track == FEW_SHOT


@cache
def _source(method: str) -> SourceInfo | None:
    """What a method's source states; None if it is no longer installed."""
    try:
        return plugin_info(method, "method")[1].source
    except PluginError:
        return None

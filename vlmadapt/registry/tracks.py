"""Tracks: what methods use besides the labelled training images and the class names. Tables hold one track each."""

from __future__ import annotations

from collections.abc import Iterable

FEW_SHOT, DESCRIPTIONS = "few-shot", "descriptions"
TEST_TIME, TRANSDUCTIVE = "test-time", "transductive"
TITLES = {
    FEW_SHOT: "with labelled images alone",
    DESCRIPTIONS: "with class descriptions",
    TEST_TIME: "with test images",
    TRANSDUCTIVE: "with unlabelled images",
}


def track_title(track: str) -> str:
    """A track in the title of a table; one that is not among `TITLES` as its method states it."""
    return TITLES.get(track, track)


def ordered(tracks: Iterable[str]) -> list[str]:
    """Each track once: those of `TITLES` in their order, then others in the order given."""
    found = dict.fromkeys(tracks)
    return [*(track for track in TITLES if track in found), *(track for track in found if track not in TITLES)]


def named(track: str, among: Iterable[str]) -> str:
    """The title of a track where it says something: "" if all are the track of labelled images alone."""
    return "" if {track, *among} == {FEW_SHOT} else track_title(track)

"""Wording that many messages share."""

from __future__ import annotations

from collections.abc import Sequence


def first_line(error: BaseException, *, named: bool = False) -> str:
    """The first line of an error's message, or its type where it has none.

    Args:
        error: any exception.
        named: put the type before the message, for errors that are unexpected.
    """
    kind, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return kind
    return f"{kind}: {lines[0]}" if named else lines[0]


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 epoch`, `1,000 epochs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Sequence[object], most: int = 5) -> str:
    """The first few names: `a, b, c and 4 more`."""
    shown = ", ".join(map(str, names[:most]))
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def duration(seconds: float) -> str:
    """A time in a unit that suits it: `99 s`, `99 min`, `2.5 h`."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def readable(name: str) -> str:
    """A class name as it is written into a prompt: underscores become spaces, as in all published code."""
    return " ".join(name.replace("_", " ").split())

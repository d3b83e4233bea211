"""Wording that many messages share."""

from __future__ import annotations


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

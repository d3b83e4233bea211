"""Errors that are meant for people: what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class VlmadaptError(Exception):
    """A mistake the user can mend; the command line prints its message alone and exits with 2."""


class DataError(VlmadaptError):
    """The data on disk is not what was promised (missing, corrupt, empty, too few)."""


class BackboneError(VlmadaptError):
    """A backbone is unknown, cannot be loaded, or lacks what a method needs."""


class PluginError(VlmadaptError):
    """A plugin is unknown, broken, or clashes with another."""


class AdapterError(VlmadaptError):
    """A saved adapter does not fit the method, the backbone or the classes it is loaded for."""


class TrainingError(VlmadaptError):
    """Training cannot go on (a loss that is not finite); the last good state is kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name: what was asked for, the nearest known name, all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Known: {first_few(names, 50) or 'none'}."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def first_few(names: Sequence[object], most: int = 5) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(map(str, names[:most]))
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def counted(number: int, noun: str) -> str:
    """`1 image`, `2,000 images`, `3 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"

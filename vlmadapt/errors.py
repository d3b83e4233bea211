"""Errors for users: what is wrong, where, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from vlmadapt.text import first_few


class VlmadaptError(Exception):
    """A mistake the user can correct; the command line prints its message alone and exits with 2."""


class VlmadaptWarning(UserWarning):
    """Something that may be unintended; the command line prints its message alone."""


class DataError(VlmadaptError):
    """The data on disk is missing, corrupt, empty, or too little."""


class BackboneError(VlmadaptError):
    """A backbone is unknown, cannot be loaded, or lacks what a method needs."""


class PluginError(VlmadaptError):
    """A plugin is unknown, broken, or clashes with another."""


class SettingError(VlmadaptError):
    """A setting or an option of a method is unknown, or has a value that it cannot have."""


class AdapterError(VlmadaptError):
    """A saved adapter does not fit the method, the backbone or the classes it is loaded for."""


class TrainingError(VlmadaptError):
    """Training cannot go on (a loss that is not finite); the last good state is kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for an unknown name, with the nearest known name and all of them."""
    names = sorted(known)
    by_lower = {known_name.casefold(): known_name for known_name in names}
    near = get_close_matches(name.casefold(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean '{by_lower[near[0]]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Known: {first_few(names, 50) or 'none'}."

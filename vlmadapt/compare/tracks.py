"""Tracks: what a method uses besides the labelled training images; a table holds methods of one track only."""

from __future__ import annotations

from functools import cache

from vlmadapt.errors import PluginError
from vlmadapt.registry.listing import plugin_info

FEW_SHOT = "few-shot"
"""Track of methods that use the labelled images and the class names alone, and of methods that state none."""


@cache
def track_of(method: str) -> str:
    """The track that a method states in its source."""
    try:
        _, info = plugin_info(method, "method")
    except PluginError:  # no longer installed
        return FEW_SHOT
    return info.source.track if info.source is not None else FEW_SHOT

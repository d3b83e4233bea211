"""The two towers of a dual encoder, by name."""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """The two towers of a dual encoder."""

    TEXT = "text"
    IMAGE = "image"


TEXT, IMAGE = Side.TEXT, Side.IMAGE

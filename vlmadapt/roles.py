"""What is known about a list of classes: trained on, not trained on, or mixed."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Whether the classes that an inference router answers for were trained on."""

    SEEN = "seen"
    UNSEEN = "unseen"
    UNKNOWN = "unknown"


SEEN, UNSEEN, UNKNOWN = Role.SEEN, Role.UNSEEN, Role.UNKNOWN

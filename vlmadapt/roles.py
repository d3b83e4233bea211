"""Role of a list of classes: trained on (seen), not trained on (unseen), or unknown."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Whether the classes that an inference router scores were trained on."""

    SEEN = "seen"
    UNSEEN = "unseen"
    UNKNOWN = "unknown"


SEEN, UNSEEN, UNKNOWN = Role.SEEN, Role.UNSEEN, Role.UNKNOWN

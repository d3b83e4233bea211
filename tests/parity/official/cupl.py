"""CuPL, whose scores are cosines in the official code."""

from __future__ import annotations

from tests.parity.official.dclip import cosines
from tests.parity.official.names import Official

METHOD = "cupl"


def official() -> Official:
    return Official(method="cupl", outputs={"output": cosines})

"""WaffleCLIP with the descriptors that the official code drew; its scores are cosines."""

from __future__ import annotations

from typing import Any

from tests.parity.official.dclip import cosines
from tests.parity.official.names import Official, Options

METHOD = "waffle"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {"published": True, "before": hyper["label_before_text"], "descriptors": oracle["descriptors"]}

    return Official(method="waffle", options=options, outputs={"output": cosines})

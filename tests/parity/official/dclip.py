"""DCLIP, whose scores are cosines in the official code."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN, ForwardPass, Method

METHOD = "dclip"


def cosines(method: Method, fwd: ForwardPass) -> Any:
    return method.route(fwd, SEEN) / fwd.scale


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {"published": True, "before": hyper["before_text"], "after": hyper["after_text"]}

    return Official(method="dclip", options=options, outputs={"output": cosines})

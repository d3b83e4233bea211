"""MMA."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "mmadapter"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "layers": list(range(hyper["ADAPTER_START"], hyper["ADAPTER_END"] + 1)),
            "width": hyper["ADAPTER_DIM"],
            "scale": hyper["ADAPTER_SCALE"],
            "template": f"{hyper['TEXT_CTX_INIT']} {{}}.",
        }

    return Official(
        method="mma",
        options=options,
        names=(
            (r"adapter_learner\.shared_adapter\.(\d+)\.0\.(\w+)", r"shared.\1.\2"),
            *(
                (rf"adapter_learner\.{theirs}_adapter\.(\d+)\.(down|up)(\.0)?\.(\w+)", rf"{ours}.\1.\2.\4")
                for theirs, ours in (("text", "text"), ("visual", "image"))
            ),
        ),
        terms={"ce": "ce"},
    )

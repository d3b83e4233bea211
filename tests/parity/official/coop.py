"""CoOp."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "coop"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "tokens": hyper["N_CTX"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "position": hyper["CLASS_TOKEN_POSITION"],
            "per_class": hyper["CSC"],
        }

    return Official(
        method="coop",
        options=options,
        names=((r"prompt_learner\.ctx", "context"),),
        terms={"ce": "ce"},
        variants={
            f"logits_{position}": ({"position": position}, lambda method, x: x.logits())
            for position in ("end", "middle", "front")
        },
    )

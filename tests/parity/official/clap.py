"""CLAP."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options
from tests.parity.official.zslp import OUTPUTS

METHOD = "clap"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        """The official constraint is a string that is searched for words."""
        words = hyper["CONSTRAINT"]
        if "corrected" in words and "constant" in words:  # the mean of what has mean 1
            words += "-balanced"
        return {
            "passes": hyper["epochs_aumentation"],
            "distance": "cosine" if "cosine" in words and "l2" not in words else "l2",
            "multipliers": next((kind for kind in ("balanced", "constant", "corrected") if kind in words), "class"),
            "adaptive": "adaptative" in words,
        }

    return Official(
        method="clap",
        options=options,
        names=(("prototypes", "prototypes"),),
        terms={"ce": "ce", "constraint": "penalty"},
        routed=("logits",),
        outputs={**OUTPUTS, "alpha_constraint": lambda method, x: method.get_buffer("multipliers")},
        epochs=True,
    )

"""ProLIP."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

METHOD = "prolip"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        """lambda is 1/N, 1/N^2 or a number."""
        if hyper["lambda_funct_1_N"] or hyper["lambda_funct_1_N2"]:
            return {"penalty": 1.0, "shots_power": 1 if hyper["lambda_funct_1_N"] else 2}
        return {"penalty": hyper["lambda_v"], "shots_power": 0}

    return Official(
        method="prolip",
        options=options,
        names=(("vit_proj", "projection.difference"),),
        terms={"ce": "ce", "mse": "distance"},
        routed=("logits",),
        outputs={"clip_weights": lambda method, x: x.zero_shot.text.T},
    )

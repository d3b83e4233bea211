"""SS-Text, SS-Text+ and the variant with performance weights."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options
from vlmadapt_heads.prototypes import unit_text_prototypes

METHOD = "sstext"


def official() -> Official:
    def options(variant: dict[str, Any]) -> Options:
        shots = "shots" if variant["balanced_importance"] else "class-shots"
        prior = {"adaptive_shots": shots, "adaptive_perf": "performance"}.get(variant["text_lambda"], "fixed")
        return {"prior": prior, "repel": variant["repel"]}

    def solved(oracle: dict[str, Any]) -> dict[str, Options]:
        """Arrays without a prefix are those of SS-Text itself."""
        variants = oracle["hyperparameters"]["variants"]
        return {"": options(variants["sstext"]), **{f"{name}/": options(v) for name, v in variants.items()}}

    return Official(
        method="ss-text",
        names=(("prototypes", "prototypes"),),
        routed=("logits",),
        outputs={
            "image_features_eval": lambda method, x: x.image(),
            "base_text_features": lambda method, x: unit_text_prototypes(x),
        },
        start=lambda method, support: method.start(support),
        solved=solved,
    )

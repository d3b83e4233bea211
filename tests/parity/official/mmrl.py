"""MMRL."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options, Output
from vlmadapt.plugin import SEEN

TRAINER = "mmrl"

MMRL_OUTPUTS: dict[str, Output] = {
    "logits_fusion": lambda method, x: method.route(x, SEEN),
    "logits_rep": lambda method, x: x.logits("representation"),
    "image_features": lambda method, x: x.image(),
    "text_features": lambda method, x: x.text(),
}
MMRL_TERMS: dict[str, str | tuple[str, ...]] = {
    "ce_class": "ce",
    "ce_rep": "representation",
    "reg_image": "image",
    "reg_text": "text",
}


def mmrl_options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
    return {
        "alpha": hyper["ALPHA"],
        "reg_weight": hyper["REG_WEIGHT"],
        "layers": hyper["REP_LAYERS"],
        "width": hyper["REP_DIM"],
        "tokens": hyper["N_REP_TOKENS"],
    }


def official() -> Official:
    return Official(
        method="mmrl",
        options=mmrl_options,
        names=(
            (r"image_encoder\.proj_rep", "projection"),
            (r"representation_learner\.compound_rep_tokens", "space"),
            (r"representation_learner\.compound_rep_tokens_r2vproj\.(\d+)\.(\w+)", r"to_image.maps.\1.\2"),
            (r"representation_learner\.compound_rep_tokens_r2tproj\.(\d+)\.(\w+)", r"to_text.maps.\1.\2"),
        ),
        terms=MMRL_TERMS,
        outputs=MMRL_OUTPUTS,
    )

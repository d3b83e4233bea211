"""ZS-LP, and what all four methods of this code share."""

from __future__ import annotations

from tests.parity.official.names import Official
from vlmadapt_heads.prototypes import text_prototypes

METHOD = "zslp"

OUTPUTS = {
    "image_features_eval": lambda method, x: x.features("image"),
    "base_text_features": lambda method, x: text_prototypes(x),
}


def official() -> Official:
    return Official(
        method="zs-lp",
        names=(("prototypes", "prototypes"),),
        terms={"ce": "ce"},
        routed=("logits",),
        outputs=OUTPUTS,
    )

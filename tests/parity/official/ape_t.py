"""APE-T."""

from __future__ import annotations

from tests.parity.official.ape import OUTPUTS, common_options
from tests.parity.official.names import Official

METHOD = "ape_t"


def official() -> Official:
    return Official(
        method="ape-t",
        options=lambda hyper, oracle: common_options(
            hyper, "training_feat_num", "w_training", oracle["backbone"]["embed"]
        ),
        names=(("value_weights", "value_weights"), ("res", "residual")),
        terms={"ce": "ce"},
        routed=("logits", "logits_searched"),
        outputs=OUTPUTS,
        finished=("logits_searched",),
    )

"""AlignedNorm."""

from __future__ import annotations

from dataclasses import replace

from tests.parity.official import mmrlpp
from tests.parity.official.names import Official

TRAINER = "alignednorm"


def official() -> Official:
    base = mmrlpp.official()
    return replace(
        base,
        method="alignednorm",
        options=lambda hyper, oracle: {
            **base.options(hyper, oracle),
            "final_norm": hyper["FINAL_NORM"],
            "sequence_norm": hyper["SEQ_NORM"],
        },
        terms={
            "ce": ("ce", "representation"),
            "image": "image",
            "text": "text",
            "norm_final": "final norm",
            "norm_seq": "sequence norm",
        },
        weighted=True,
        outputs={**base.outputs, "rep_features": lambda method, x: x.image("representation")},
        unused=("unused_norm_ln", "unused_norm_att"),
    )

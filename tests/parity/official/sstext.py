"""SS-Text, SS-Text+ and the variant with performance weights."""

from __future__ import annotations

from tests.parity.official.names import Official
from vlmadapt_heads.prototypes import unit_text_prototypes

METHOD = "sstext"


def official() -> Official:
    return Official(
        method="ss-text",
        names=(("prototypes", "prototypes"),),
        routed=("logits",),
        outputs={
            "image_features_eval": lambda method, x: x.image(),
            "base_text_features": lambda method, x: unit_text_prototypes(x),
        },
        start=lambda method, support: method.start(support),
        solved={
            "": {},
            "sstext/": {},
            "sstext_plus/": {"prior": "class-shots", "repel": True},
            "sstext_perf/": {"prior": "performance"},
        },
    )

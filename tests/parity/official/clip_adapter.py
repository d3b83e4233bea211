"""CLIP-Adapter."""

from __future__ import annotations

from tests.parity.official.names import Official
from vlmadapt.plugin import SEEN

TRAINER = "clip_adapter"


def official() -> Official:
    return Official(
        method="clip-adapter",
        options=lambda hyper, oracle: {"reduction": hyper["reduction"], "ratio": hyper["ratio"]},
        names=((r"adapter\.fc\.0\.weight", "image.down.weight"), (r"adapter\.fc\.2\.weight", "image.up.weight")),
        terms={"ce": "ce"},
        outputs={"logits": lambda method, x: method.route(x, SEEN)},
        plain=True,
    )

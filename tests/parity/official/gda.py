"""GDA, the few-shot script."""

from __future__ import annotations

from tests.parity.official.names import Official

METHOD = "gda"

OUTPUTS = {
    "clip_weights": lambda method, x: x.zero_shot.text.T,
    "image_features_eval": lambda method, x: x.image(),
    "logits_zero_shot": lambda method, x: x.zero_shot.logits,
    "W": lambda method, x: method.get_buffer("weight").T,
    "b": lambda method, x: method.get_buffer("bias"),
}


def official() -> Official:
    return Official(
        method="gda",
        options=lambda hyper, oracle: {
            "passes": hyper["augment_epoch"],
            "alpha": hyper["alpha"],
            "alphas": hyper["alphas"],
        },
        routed=("logits", "logits_searched"),
        outputs=OUTPUTS,
        finished=("logits_searched",),
    )

"""LP++."""

from __future__ import annotations

from tests.parity.official.names import Official

METHOD = "lpplusplus"


def official() -> Official:
    return Official(
        method="lp++",
        options=lambda hyper, oracle: {"published": True, "alpha_every": oracle["alpha_every"]},
        names=((r"classifier\.(.*)", r"\1"), ("alpha_vec", "alpha")),
        terms={"ce": "ce"},
        routed=("logits", "logits_selected"),
        outputs={
            "clip_weights": lambda method, x: x.zero_shot.text.T,
            "image_features_eval": lambda method, x: x.image(),
            "lr_w": lambda method, x: method.get_buffer("lr_weight"),
            "lr_alpha": lambda method, x: method.get_buffer("lr_alpha"),
        },
        finished=("logits_selected",),
        drawn=("classifier.bias",),
        epochs=True,
        lr=1.0,
    )

"""Zero-shot CLIP in KaiyangZhou/CoOp."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "zsclip"


def official() -> Official:
    def ensemble(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {"own_template": oracle["template_dataset"] != "ImageNet"}

    everything = {"ensemble": True}
    return Official(
        method="clip",
        options=ensemble,
        outputs={
            "text_features": lambda method, x: x.zero_shot.text,
            "image_features": lambda method, x: x.zero_shot.image,
            "logits": lambda method, x: x.zero_shot.logits,
        },
        variants={
            "logits_ensemble": (everything, lambda method, x: x.zero_shot.logits),
            "text_features_ensemble": (everything, lambda method, x: x.zero_shot.text),
        },
        plain=True,
    )

"""MAIL."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "mailsrc"

PLACES = {
    r"mail_learner\.ln_proj_layers_att\.(\d+)": r"norm1.\1",
    r"mail_learner\.mlp_proj_layers_mlp\.(\d+)": r"attention.\1",
    r"mail_learner\.ln_proj_layers_mlp\.(\d+)": r"norm2.\1",
    r"mail_learner\.att_proj_layers_att\.(\d+)": r"mlp.\1",
    "(last_ln)": "last_norm",
    "(last_adapter)": "projected",
}
TENSORS = {
    "visual_a": "scale.image",
    "visual_b": "shift.image",
    "text_a": "scale.text",
    "text_b": "shift.text",
    "text_proj_down": "down",
    "text_proj_up": "up",
}


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "rank": hyper["RANK"],
            "start": hyper["IVLU_START_LAYER"],
            "end": hyper["IVLU_END_LAYER"],
            "coupled_start": hyper["START_LAYER"],
            "coupled_end": hyper["END_LAYER"],
            "projections": hyper["PROJ"],
            "image_loss": hyper["IMAGE_LOSS_WEIGHT"],
            "text_loss": hyper["TEXT_LOSS_WEIGHT"],
            "logits_loss": hyper["LOGIT_LOSS_WEIGHT"],
            "published": True,
        }

    agents = [
        (rf"{place}\.{tensor}", f"{ours}.{name}") for place, ours in PLACES.items() for tensor, name in TENSORS.items()
    ]
    return Official(
        method="mail",
        options=options,
        names=(
            *agents,
            (r"text_encoder\.text_projection", "projections.text.difference"),
            (r"image_encoder\.proj", "projections.image.difference"),
        ),
        terms={name: name for name in ("ce", "image", "text", "logits")},
        weighted=True,
        outputs={
            "image_features": lambda method, fwd: fwd.image(),
            "text_features": lambda method, fwd: fwd.text(),
            "teacher_text_features": lambda method, fwd: fwd.zero_shot.text,
        },
        plain=True,
    )

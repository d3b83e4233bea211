"""2SFS."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "twostage"

TOWERS = {"vision": "image"}


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "towers": TOWERS.get(hyper["ln_modality"], hyper["ln_modality"]),
            "text_start": hyper["ln_text_start"] + 1,
            "image_start": hyper["ln_vision_start"] + 1,
            "template": hyper["template"],
        }

    norms = [
        (
            rf"{theirs}transformer\.resblocks\.(\d+)\.ln_{number}\.(weight|bias)",
            rf"{ours}.\1.{number - 1}.copies.\2.difference",
        )
        for theirs, ours in (("", "text"), (r"visual\.", "image"))
        for number in (1, 2)
    ]
    return Official(
        method="2sfs",
        options=options,
        names=(*norms, ("classifier", "classifier")),
        later=("classifier",),
        outputs={
            "image_features": lambda method, fwd: fwd.image(),
            "text_features": lambda method, fwd: method.class_features(fwd) if method.has_rows else fwd.text(),
        },
    )

"""CoPrompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.parity.official import maple
from tests.parity.official.names import Official
from vlmadapt.roles import SEEN

TRAINER = "coprompt"


def official() -> Official:
    base = maple.official()

    def before_step(method: Any, oracle: Any, step: int) -> None:
        number = torch.tensor(oracle.settings["sampled_descriptions"][step])
        method.draw = lambda texts, device: number

    return replace(
        base,
        method="coprompt",
        options=lambda hyper, oracle: {
            **base.options(hyper, oracle),
            "weight": hyper["W"],
            "distance": hyper["DISTILL"],
        },
        names=(
            *base.names,
            (r"adapter_(image|text)\.fc\.(\d)\.weight", r"\1_adapter.\2.weight"),
        ),
        terms={"ce": "ce", "text": "text", "image": "image"},
        weighted=True,
        outputs={
            "logits": lambda method, fwd: method.route(fwd, SEEN),
            "teacher_text_features": lambda method, fwd: (
                fwd.sentences().zero_shot.text.unflatten(0, (len(fwd.names), -1)).transpose(0, 1)
            ),
        },
        plain=True,
        before_step=before_step,
    )

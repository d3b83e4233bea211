"""ProGrad."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options, template_of

TRAINER = "prograd"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "tokens": hyper["N_CTX"],
            "start": "words" if hyper["CTX_INIT"] else "random",
            "position": hyper["CLASS_TOKEN_POSITION"],
            "per_class": hyper["CSC"],
            "template": template_of(oracle["prompts"]["base"]["teacher"], oracle["base_classes"]),
            "strength": hyper["LAMBDA"],
            "temperature": hyper["T"],
        }

    return Official(
        method="prograd",
        options=options,
        names=((r"prompt_learner\.ctx", "context"),),
        terms={"ce": "ce", "kl": "guide"},
        gradients={"xe": 0, "kl": 1},
        outputs={"teacher_text_features": lambda method, x: x.zero_shot.text},
    )

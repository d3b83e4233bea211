"""RPO."""

from __future__ import annotations

from tests.parity.official.names import Official
from vlmadapt.plugin import SEEN

TRAINER = "rpo"


def official() -> Official:
    return Official(
        method="rpo",
        options=lambda hyper, oracle: {
            "tokens": hyper["K"],
            "template": hyper["PROMPT"].replace("_", "{}"),
            "raw_names": any("_" in text for of in oracle["prompts"].values() for text in of["text"]),
        },
        names=((r"prompt_learner\.text_prompt", "text_tokens"), (r"prompt_learner\.img_prompt", "image_tokens")),
        terms={"ce": "ce"},
        outputs={"logits": lambda method, x: method.route(x, SEEN)},
    )

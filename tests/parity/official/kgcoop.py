"""KgCoOp."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options, template_of

TRAINER = "kgcoop"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "tokens": hyper["N_CTX"],
            "words": "a photo of a" if hyper["CTX_INIT"] else "",
            "per_class": hyper.get("CSC", False),
            "weight": hyper["W"],
            "teacher": template_of(oracle["prompts"]["base"]["teacher"], oracle["base_classes"]),
        }

    return Official(
        method="kgcoop",
        options=options,
        names=((r"prompt_learner\.ctx", "context"),),
        terms={"ce": "ce", "text_regulariser": "text"},
        weighted=True,
        outputs={"teacher_text_features": lambda method, x: x.zero_shot.text},
    )

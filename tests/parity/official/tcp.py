"""TCP."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options, template_of

TRAINER = "tcp"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        prompts, classes = oracle["prompts"]["base"], oracle["base_classes"]
        n = oracle["trainable"]["prompt_learner.ctx"][-2]
        return {
            "tokens": n,
            "words": "a photo of a" if hyper["CTX_INIT"] else "",
            # The context takes the places of the first n words, whatever they are.
            "template": " ".join(template_of(prompts, classes).split(" ")[n:]),
            "teacher": template_of(prompts["teacher"], classes),
            "layer": hyper["insert_layer"] + 1,
            "weight": hyper["loss_weight"],
        }

    return Official(
        method="tcp",
        options=options,
        names=(
            (r"prompt_learner\.ctx", "context"),
            (r"prompt_learner\.meta_net\.linear1\.(\w+)", r"down.\1"),
            (r"prompt_learner\.meta_net\.linear2\.(\w+)", r"up.\1"),
        ),
        terms={"ce": "ce", "text_regulariser": "text"},
        weighted=True,
        outputs={"teacher_text_features": lambda method, x: x.zero_shot.text},
    )

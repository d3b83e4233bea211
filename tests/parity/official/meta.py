"""MetaPrompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.parity.official.names import Official
from tests.parity.oracle import Oracle
from vlmadapt.plugin import SEEN, LossTerm, total

TRAINER = "meta"


def official() -> Official:
    return Official(
        method="metaprompt",
        options=lambda hyper, oracle: {
            "text_tokens": hyper["N_CTX"],
            "image_tokens": hyper["N_PRO"],
            "depth": hyper["LAYERS"],
            "meta_step": hyper["META_STEP"],
            "raw_names": any("_" in text for of in oracle["prompts"].values() for text in of["teacher"]["text"]),
        },
        names=((r"prompt_learner\.ctx", "context"), (r"vision_prompt_learner\.ctx", "tokens")),
        terms={"ce_average": "average", "ce_image": "image", "ce_text": "text"},
        outputs={
            "logits": lambda method, x: method.route(x, SEEN),
            "teacher_text_features": lambda method, x: x.zero_shot.text,
        },
        loss=lambda terms: total(terms[:3]),
        steps={"cross_entropies": cross_entropies},
        runs={"variant_restored": {"undo": "both"}, "variant_zero_grad": {"drift": True}},
        before_step=set_order,
    )


def cross_entropies(terms: Sequence[LossTerm]) -> Tensor:
    return torch.stack([value for _, _, value in terms])


def set_order(method: Any, oracle: Oracle, step: int) -> None:
    method.shuffled = lambda classes: torch.tensor(oracle.settings["class_order"][step])

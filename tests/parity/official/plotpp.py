"""PLOT++."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.parity.official.names import Official, Options, spaced
from vlmadapt.plugin import SEEN, ForwardPass

TRAINER = "plotpp"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        texts, classes = oracle["prompts"]["base"]["text"], oracle["base_classes"]
        return {
            "starts": [text.removesuffix(f" {spaced(classes[0])}.") for text in texts[:: len(classes)]],
            "image_sets": hyper["M"],
            "image_tokens": hyper["N_CTX_V"],
            "stage": {"vision": "image"}.get(hyper["MODEL_UPD"], hyper["MODEL_UPD"]),
            "pooled": "always" if hyper["TRADE_OFF"] else "never",
            "eps": hyper["eps"],
            "rounds": hyper["max_iter"],
            "tolerance": hyper["thresh"],
        }

    return Official(
        method="plot++",
        options=options,
        names=((r"prompt_learner\.ctx", "context"), (r"prompt_learner\.ctx_vision", "tokens")),
        terms={"ce": "ce"},
        outputs={
            "logits": lambda method, x: method.route(x, SEEN),
            "plan": plan,
        },
    )


def plan(method: Any, fwd: ForwardPass) -> Tensor:
    """By pair of image and class, as the official code lists them."""
    plans: Tensor = method.plans(method.similarities(fwd))
    return plans.flatten(0, 1)

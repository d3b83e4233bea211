"""PLOT, on a vision transformer that returns all tokens."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import IMAGE, SEEN, ForwardPass, Method
from vlmadapt_prompts.plot import PLOT

TRAINER = "plot"


def plans(method: Method, fwd: ForwardPass) -> Tensor:
    """(images * classes, M, N)"""
    plot = cast(PLOT, method)
    return plot.plans(plot.similarities(fwd)).flatten(0, 1)


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "prompts": hyper["N"],
            "tokens": hyper["N_CTX"],
            "position": hyper["CLASS_TOKEN_POSITION"],
            "pooled": oracle["template_dataset"] == "ImageNet",
            "eps": hyper["eps"],
            "rounds": hyper["max_iter"],
            "tolerance": hyper["thresh"],
        }

    return Official(
        method="plot",
        options=options,
        names=((r"prompt_learner\.ctx", "contexts"),),
        terms={"ce": "ce"},
        outputs={
            "logits": lambda method, x: method.route(x, SEEN),
            "plan": plans,
            "eval_image_tokens": lambda method, x: x.features(IMAGE, "tokens").transpose(0, 1),
        },
    )

"""ProDA, as a public port has it."""

from __future__ import annotations

from typing import cast

import torch

from tests.parity.official.names import Official
from tests.parity.oracle import Oracle
from vlmadapt.plugin import SEEN, Method
from vlmadapt_prompts.proda import ProDA

TRAINER = "proda"


@torch.no_grad()
def before_step(method: Method, oracle: Oracle, step: int) -> None:
    """The official permutation, as far as it is used up at this step."""
    proda = cast(ProDA, method)
    steps = proda.config.prompts // proda.config.batch
    if steps > 1:  # else every step takes all prompts
        proda.order.copy_(torch.tensor(oracle.settings["prompt_permutations"][step // steps]))
    proda.used.fill_(step % steps * proda.config.batch)


def official() -> Official:
    return Official(
        method="proda",
        options=lambda hyper, oracle: {
            "prompts": hyper["N_PROMPT"],
            "tokens": hyper["N_CTX"],
            "batch": hyper["PROMPT_BS"],
            "weight": hyper["ALPHA"],
            "raw_names": any("_" in text for of in oracle["prompts"].values() for text in of["text"]),
        },
        names=((r"prompt_learner\.ctx", "contexts"),),
        terms={"ce": "ce", "orthogonality": "orthogonality"},
        weighted=True,
        outputs={"logits": lambda method, x: method.route(x, SEEN)},
        before_step=before_step,
    )

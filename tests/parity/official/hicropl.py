"""HiCroPL, as published and with the mapping inside the graph."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor

from tests.parity.official.names import Official, Output
from vlmadapt.plugin import ForwardPass
from vlmadapt.roles import SEEN

TRAINER = "hicropl"

NETS = {
    r"\.attn\.(\w+)": r".attn.\1",
    r"\.attn\.out_proj\.(\w+)": r".attn.out_proj.\1",
    r"\.ln_(\d)\.(\w+)": r".norm\1.\2",
    r"\.linear_q\.(\w+)": r".query.\1",
    r"\.linear_k\.(\w+)": r".key.\1",
    r"\.linear_v\.(\w+)": r".value.\1",
    r"\.ffn\.c_fc\.(\w+)": r".expand.\1",
    r"\.ffn\.c_proj\.(\w+)": r".contract.\1",
}
MAPPERS = {"text2visual_net": "to_image.mapper", "visual2text_net": "to_text.mapper"}
POOLS = {"text": "to_image", "visual": "to_text"}


def second_batch(method: Any, fwd: ForwardPass) -> Tensor:
    """The same batch once more, which official code answers with prompts that it has mapped twice."""
    again = deepcopy(method)
    again.overwrite()
    return again.route(fwd.other(hooks=again.hooks()), SEEN)


def mapped(side: int, depth: int, method: Any, fwd: ForwardPass) -> Tensor:
    return method.mapped()[side][depth]


def official() -> Official:
    shifted = {k: v.replace(r"\2", r"\3").replace(r"\1", r"\2") for k, v in NETS.items()}
    outputs: dict[str, Output] = {
        "teacher_text_features": lambda method, fwd: method.described(fwd),
        "logits": lambda method, fwd: method.route(fwd, SEEN),
        "output_second_batch": second_batch,
    }
    for side, tower in enumerate(("text", "visual")):
        for depth in range(6):
            outputs[f"mapped0/prompt_learner.cross_prompts_{tower}.{depth}"] = partial(mapped, side, depth)
    return Official(
        method="hicropl",
        options=lambda hyper, oracle: {
            "tokens": hyper["N_CTX"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "depth": hyper["PROMPT_DEPTH"],
            "cross": hyper["CROSS_LAYER"],
            "weight": hyper["LAMBD"],
            "published": "never_trained" in oracle,
        },
        names=(
            (r"prompt_learner\.ctx", "text.0"),
            (r"prompt_learner\.cross_prompts_text\.(\d+)", r"text.\1"),
            (r"prompt_learner\.cross_prompts_visual\.(\d+)", r"image.\1"),
            *((rf"prompt_learner\.{a}_proxy_token\.(\d+)", rf"{b}.proxies.\1") for a, b in POOLS.items()),
            *((rf"prompt_learner\.{a}{k}", b + v) for a, b in MAPPERS.items() for k, v in NETS.items()),
            *(
                (rf"prompt_learner\.attn_pooling_{a}_nets\.(\d+){k}", rf"{b}.pools.\1{v}")
                for a, b in POOLS.items()
                for k, v in shifted.items()
            ),
        ),
        terms={"ce": "ce", "text": "text", "image": "image"},
        weighted=True,
        outputs=outputs,
        plain=True,
    )

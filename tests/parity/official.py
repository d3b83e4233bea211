"""How the names of the official code read in this library, one entry for each official trainer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vlmadapt.plugin import SEEN, Forward, Method

Options = dict[str, Any]
Output = Callable[[Method, Forward], Tensor]


@dataclass(frozen=True)
class Official:
    """A method of this library seen from its official code.

    Attributes:
        method: the registered name.
        options: official hyper-parameters -> the method's options.
        names: (official pattern, this library's replacement) for parameter names; the first match is taken.
        terms: this library's name of each loss term, by the official one.
        outputs: how an array of an evaluation is computed, by its name; `output` and `logits` need no entry.
        variants: further outputs that need other options: name -> (options, output).
    """

    method: str
    options: Callable[[dict[str, Any], dict[str, Any]], Options] = lambda hyper, oracle: {}
    names: tuple[tuple[str, str], ...] = ()
    terms: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    variants: dict[str, tuple[Options, Output]] = field(default_factory=dict)

    def name(self, official: str) -> str:
        for pattern, replacement in self.names:
            if re.fullmatch(pattern, official):
                return re.sub(pattern, replacement, official)
        raise KeyError(f"no counterpart for the official parameter '{official}'")


def clip() -> Official:
    def ensemble(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {"own_template": not (oracle["template_dataset"] or "").startswith("ImageNet")}

    everything = {"ensemble": True}
    return Official(
        method="clip",
        options=ensemble,
        outputs={
            "text_features": lambda method, x: x.zero_shot.text,
            "image_features": lambda method, x: x.zero_shot.image,
            "logits": lambda method, x: x.zero_shot.logits,
        },
        variants={
            "logits_ensemble": (everything, lambda method, x: x.zero_shot.logits),
            "text_features_ensemble": (everything, lambda method, x: x.zero_shot.text),
        },
    )


def coop() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "tokens": hyper["N_CTX"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "position": hyper["CLASS_TOKEN_POSITION"],
            "per_class": hyper["CSC"],
        }

    return Official(
        method="coop",
        options=options,
        names=((r"prompt_learner\.ctx", "context"),),
        terms={"ce": "class"},
        variants={
            f"logits_{position}": ({"position": position}, lambda method, x: x.logits())
            for position in ("end", "middle", "front")
        },
    )


def maple() -> Official:
    return Official(
        method="maple",
        options=lambda hyper, oracle: {
            "tokens": hyper["N_CTX"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "depth": hyper["PROMPT_DEPTH"],
        },
        names=(
            (r"prompt_learner\.ctx", "context"),
            (r"prompt_learner\.proj\.(weight|bias)", r"couple.\1"),
            (r"prompt_learner\.compound_prompts_text\.(\d+)", r"deep.\1"),
            (r"prompt_learner\.compound_prompt_projections\.(\d+)\.(weight|bias)", r"couple_deep.\1.\2"),
        ),
        terms={"ce": "class"},
    )


MMRL_OUTPUTS: dict[str, Output] = {
    "logits_fusion": lambda method, x: method.route(x, SEEN),
    "logits_rep": lambda method, x: x.logits("representation"),
    "image_features": lambda method, x: x.image(),
    "text_features": lambda method, x: x.text(),
}
MMRL_TERMS = {"ce_class": "class", "ce_rep": "representation", "reg_image": "image", "reg_text": "text"}


def mmrl_options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
    return {
        "alpha": hyper["ALPHA"],
        "reg_weight": hyper["REG_WEIGHT"],
        "layers": hyper["REP_LAYERS"],
        "width": hyper["REP_DIM"],
        "tokens": hyper["N_REP_TOKENS"],
    }


def mmrl() -> Official:
    return Official(
        method="mmrl",
        options=mmrl_options,
        names=(
            (r"image_encoder\.proj_rep", "projection"),
            (r"representation_learner\.compound_rep_tokens", "space"),
            (r"representation_learner\.compound_rep_tokens_r2vproj\.(\d+)\.(\w+)", r"to_image.maps.\1.\2"),
            (r"representation_learner\.compound_rep_tokens_r2tproj\.(\d+)\.(\w+)", r"to_text.maps.\1.\2"),
        ),
        terms=MMRL_TERMS,
        outputs=MMRL_OUTPUTS,
    )


def mmrlpp() -> Official:
    sides = (("r2v", "to_image"), ("r2t", "to_text"))
    learner = r"representation_learner\.srra_"
    names = [(r"image_encoder\.A", "projection_residual.a"), (r"image_encoder\.B", "projection_residual.b"),
             (r"representation_learner\.compound_rep_tokens", "space")]  # fmt: skip
    for official, ours in sides:
        names += [
            (rf"{learner}{official}proj\.weight", f"{ours}.weight"),
            (rf"{learner}{official}proj\.srra\.(\d+)\.bias", rf"{ours}.biases.\1"),
            (rf"{learner}{official}proj\.srra\.(\d+)\.A", rf"{ours}.residuals.\1.a"),
            (rf"{learner}{official}proj\.srra\.(\d+)\.B", rf"{ours}.residuals.\1.b"),
        ]
    return Official(
        method="mmrl++",
        options=lambda hyper, oracle: {
            **mmrl_options(hyper, oracle),
            "beta": hyper["BETA"],
            "projection_rank": hyper["PROJ_LORA_DIM"],
            "rank": hyper["RES_LORA_DIM"],
        },
        names=tuple(names),
        terms=MMRL_TERMS,
        outputs=MMRL_OUTPUTS,
    )


OFFICIAL: dict[str, Callable[[], Official]] = {
    "zsclip": clip,
    "coop": coop,
    "maple": maple,
    "mmrl": mmrl,
    "mmrlpp": mmrlpp,
}
"""By the name of the official trainer's file."""

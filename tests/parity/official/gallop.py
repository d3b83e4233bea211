"""GalLoP."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from tests.parity.official.names import Official
from vlmadapt.plugin import SEEN, ForwardPass, Method
from vlmadapt_prompts.gallop import LOCAL, GalLoP

TRAINER = "gallop"


def before_step(method: Method, oracle: Any, step: int) -> None:
    drawn = torch.tensor(oracle.settings["drawn_prompts"][step])
    cast(Any, cast(GalLoP, method).dropout).draw = lambda *of: drawn


def texts(method: Method, fwd: ForwardPass, which: int) -> Tensor:
    """(classes, contexts, joint)"""
    return cast(GalLoP, method).texts(fwd)[which].transpose(0, 1)


def official() -> Official:
    return Official(
        method="gallop",
        options=lambda hyper, oracle: {
            "global_prompts": hyper["n_global_prompts"],
            # One number of patches holds for all local prompts.
            "patches": hyper["topk"] * (hyper["n_local_prompts"] if len(hyper["topk"]) == 1 else 1),
            "dropout": hyper["global_dropout_p"],
            "words": " ".join(hyper["template"].removesuffix(".").replace("{}", " ").replace("_", " ").split()),
            "local_map": hyper["learn_local_proj"],
        },
        names=(
            ("global_prompt", "global_contexts"),
            ("local_prompts", "local_contexts"),
            (r"local_proj\.linear\.weight", "map.weight"),
        ),
        terms={"global": "ce", "local": "local"},
        outputs={
            "global_text_features": lambda method, fwd: texts(method, fwd, 0),
            "local_text_features": lambda method, fwd: texts(method, fwd, 1),
            "local_image_features": lambda method, fwd: fwd.image(LOCAL)[:, 1:],
            "logits_global": lambda method, fwd: fwd.scale * cast(GalLoP, method).global_cosines(fwd).mean(-1),
            "logits_local": lambda method, fwd: fwd.scale * cast(GalLoP, method).local_cosines(fwd).mean(-1),
            "score_gl_mcm": lambda method, fwd: -cast(GalLoP, method).certainty(fwd, SEEN),
        },
        before_step=before_step,
    )

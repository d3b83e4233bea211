"""Tip-Adapter-F; before a step of training it is Tip-Adapter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN, ForwardPass, Method

TRAINER = "main"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        (max_beta, max_alpha), (beta_steps, alpha_steps) = hyper["search_scale"], hyper["search_step"]
        return {
            "passes": hyper["augment_epoch"],
            "alpha": hyper["init_alpha"],
            "beta": hyper["init_beta"],
            "max_beta": max_beta,
            "max_alpha": max_alpha,
            "beta_steps": beta_steps,
            "alpha_steps": alpha_steps,
        }

    def answer(method: Method, fwd: ForwardPass) -> Tensor:
        return method.route(fwd, SEEN)

    return Official(
        method="tip-adapter-f",
        options=options,
        names=((r"adapter\.weight", "keys"),),
        terms={"ce": "ce"},
        outputs={
            "logits": answer,
            "logits_searched": answer,
            "logits_zero_shot": lambda method, x: x.zero_shot.logits,
            "image_features": lambda method, x: x.image(),
            "clip_weights": lambda method, x: x.zero_shot.text.T,
            "cache_keys": lambda method, x: method.state_dict()["keys"].T,
            "cache_values": lambda method, x: torch.eye(len(x.names))[method.state_dict()["labels"]],
        },
        finished=("logits_searched",),
        plain=True,
    )

"""APE, and what it shares with APE-T."""

from __future__ import annotations

from typing import Any

import torch

from tests.parity.official.names import Official, Options

METHOD = "ape"

OUTPUTS = {
    "clip_weights": lambda method, x: x.zero_shot.text.T,
    "image_features_eval": lambda method, x: x.image(),
    "logits_zero_shot": lambda method, x: x.zero_shot.logits,
    "cache_keys": lambda method, x: method.get_buffer("keys").T,
    "cache_values": lambda method, x: torch.eye(len(x.names))[method.get_buffer("labels")],
}


def common_options(hyper: dict[str, Any], channels: str, weights: str, width: int) -> Options:
    max_beta, max_alpha, *_ = hyper["search_scale"]
    beta_steps, alpha_steps, *_ = hyper["search_step"]
    return {
        "passes": hyper["augment_epoch"],
        "channels": hyper[channels] / width,
        "similarity_weight": hyper[weights][0],
        "variance_weight": hyper[weights][1],
        "alpha": hyper["init_alpha"],
        "beta": hyper["init_beta"],
        "max_beta": max_beta,
        "max_alpha": max_alpha,
        "beta_steps": beta_steps,
        "alpha_steps": alpha_steps,
    }


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            **common_options(hyper, "training_free_feat_num", "w_training_free", oracle["backbone"]["embed"]),
            "gamma": hyper["init_gamma"],
            "max_gamma": hyper["search_scale"][2],
            "gamma_steps": hyper["search_step"][2],
        }

    return Official(
        method="ape",
        options=options,
        routed=("logits", "logits_searched"),
        outputs={**OUTPUTS, "cache_divergence": lambda method, x: method.get_buffer("divergence")},
        finished=("logits_searched",),
    )

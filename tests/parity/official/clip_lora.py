"""CLIP-LoRA."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

TRAINER = "lora"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "rank": hyper["r"],
            "alpha": hyper["alpha"],
            "dropout": 0.0,  # the official run's probability is too small to drop anything
            "matrices": hyper["params"],
            "position": "top1" if hyper["position"] == "top" else hyper["position"],  # so called in the image tower
            "encoder": hyper["encoder"].replace("vision", "image"),
        }

    matrices = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
    towers = {"text": "", "image": r"visual\."}
    names = [
        (
            rf"{tower}transformer\.resblocks\.(\d+)\.attn\.{theirs}\.w_lora_{part}",
            rf"{side}.\1.{ours}.{part.lower()}.weight",
        )
        for side, tower in towers.items()
        for ours, theirs in matrices.items()
        for part in "AB"
    ]
    return Official(
        method="clip-lora",
        options=options,
        names=tuple(names),
        terms={"ce": "ce"},
        outputs={"output": lambda method, x: x.logits() / x.scale},
        plain=True,
    )

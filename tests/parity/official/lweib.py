"""LwEIB."""

from __future__ import annotations

from typing import Any

import torch

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN

TRAINER = "lweib"

TOWERS = {"text": "text", "visual": "image"}
PARTS = {"att": "attention", "mlp": "mlp"}


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "words": hyper["TEXT_CTX_INIT"],
            "layers": list(range(hyper["ADAPTER_START"], hyper["ADAPTER_END"] + 1)),
            "scale": hyper["ADAPTER_SCALE"],
            "fast": hyper["ADAPTER_SCALE_FACTOR"],
            "slow_share": hyper["SLOW_FAST_RATIO"],
            "negatives": hyper["NEG_SAMPLING_RATIO"],
        }

    def before_step(method: Any, oracle: Any, step: int) -> None:
        classes = torch.tensor(oracle.settings["sampled_classes"][step])
        numbers = torch.tensor(oracle.settings["sampled_sentences"][step])
        fast = torch.tensor([oracle.settings["fast"][tower][step] for tower in ("text", "image")])
        slow = method.config.scale
        method.draw_classes = lambda labels, count: (classes, torch.ones(len(classes), dtype=torch.bool))
        method.draw = lambda texts, device: texts.starts(device).index_add(0, classes, numbers)
        method.draw_scales = lambda blocks: torch.where(fast, slow * method.config.fast, slow)

    return Official(
        method="lweib",
        options=options,
        names=tuple(
            (rf"adapter_learner\.{theirs}_adapter\.(\d+)\.{part}_conv\.conv\.weight", rf"{ours}.\1.{name}.weight")
            for theirs, ours in TOWERS.items()
            for part, name in PARTS.items()
        ),
        outputs={
            "logits": lambda method, fwd: method.route(fwd, SEEN),
            "image_features": lambda method, fwd: fwd.image(),
            "text_features": lambda method, fwd: method.mean_text(fwd),
        },
        before_step=before_step,
    )

"""MMA++."""

from __future__ import annotations

from typing import Any

import torch

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN

TRAINER = "mmadapter_pp"

TOWERS = {"text": "text", "visual": "image"}


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "texts": {"hc": "templates", "cupl": "descriptions"}[hyper["INPUT_PROMPTS"].lower()],
            "layers": list(range(hyper["ADAPTER_START"], hyper["ADAPTER_END"] + 1)),
            "width": hyper["ADAPTER_DIM"],
            "scale": hyper["ADAPTER_TRAIN_SCALE"],
            "test_scale": hyper["ADAPTER_TEST_SCALE"],
            "weight": hyper["ADAPTER_TRAIN_SCALE_REG"],
            "dropout": hyper["ADAPTER_DROP"],
        }

    def before_step(method: Any, oracle: Any, step: int) -> None:
        numbers = torch.tensor(oracle.settings["sampled_templates"][step])
        fraction = torch.tensor(oracle.settings["regularization_draws"][step])
        method.draw = lambda texts, device: texts.starts(device) + numbers
        method.draw_fraction = lambda device: fraction

    return Official(
        method="mma++",
        options=options,
        names=(
            (r"adapter_learner\.shared_adapter\.(\d+)\.0\.(\w+)", r"shared.\1.\2"),
            *(
                (rf"adapter_learner\.{theirs}_adapter\.(\d+)\.(down|up)(\.0)?\.(\w+)", rf"{ours}.\2.\1.\4")
                for theirs, ours in TOWERS.items()
            ),
        ),
        terms={"ce": "ce", "text": "text", "image": "image"},
        weighted=True,
        outputs={
            "logits": lambda method, fwd: method.route(fwd, SEEN),
            "image_features": lambda method, fwd: fwd.image(),
            "text_features": lambda method, fwd: method.mean_text(fwd),
        },
        before_step=before_step,
    )

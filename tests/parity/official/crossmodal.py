"""Cross-modal linear probe, in the code of CLAP."""

from __future__ import annotations

from typing import Any

import torch

from tests.parity.official.names import Official
from tests.parity.official.zslp import OUTPUTS
from vlmadapt_heads.crossmodal import Drawn

METHOD = "crossmodal"


def before_step(method: Any, oracle: Any, step: int) -> None:
    """The texts of this step, which the official code draws at random."""
    inputs = oracle.settings["inputs"]
    images = inputs["support_images"]["n"] * inputs["support_images"]["passes"]
    texts, rows = inputs["train_batches"]["text_rows"], inputs["train_batches"]["rows"][step]
    chosen = [texts[row - images] if row >= images else 0 for row in rows]
    drawn = Drawn(torch.tensor([row >= images for row in rows]), torch.tensor(chosen))
    method.draw = lambda batch, texts, device: drawn


def official() -> Official:
    return Official(
        method="crossmodal",
        options=lambda hyper, oracle: {"published": True},
        names=(("prototypes", "prototypes"),),
        terms={"ce": "ce"},
        routed=("logits",),
        outputs=OUTPUTS,
        before_step=before_step,
    )

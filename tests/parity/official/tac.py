"""TAC."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN, ForwardPass, Method
from vlmadapt_multimodal.tac import TAC, cluster_centers

TRAINER = "tac"


class DrawnDropout(nn.Module):
    """Dropout that draws as the official run did."""

    def __init__(self, seed: int, share: float):
        super().__init__()
        self.draws, self.share = np.random.RandomState(seed), share

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.from_numpy(self.draws.random_sample(tuple(x.shape)) >= self.share)
        return x * kept / (1 - self.share)


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "text_tokens": hyper["N_CTX_TEXT"],
            "image_tokens": hyper["N_CTX_VISION"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "text_depth": hyper["PROMPT_DEPTH_TEXT"],
            "image_depth": hyper["PROMPT_DEPTH_VISION"],
            "text_weight": hyper["TEXT_LOSS_WEIGHT"],
            "image_weight": hyper["IMAGE_LOSS_WEIGHT"],
        }

    def before_step(method: Any, oracle: Any, step: int) -> None:
        method.dropout = DrawnDropout(oracle.settings["dropout_seed"] + step, method.config.dropout)

    def clusters(method: Method, fwd: ForwardPass) -> Tensor:
        """Those of the classes of a pass, from the first ones on."""
        assert isinstance(method, TAC)
        return cluster_centers(method.described(fwd), torch.arange(method.config.clusters))

    return Official(
        method="tac",
        options=options,
        names=(
            (r"prompt_learner\.ctx", "contexts.0"),
            (r"image_encoder\.VPT", "tokens.0"),
            (r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"contexts.\1"),
            (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"tokens.\1"),
            (r"VPT_topk_t\.(\w+)", r"to_text.\1"),
            (r"VPT_topk_v\.(\w+)", r"to_image.\1"),
        ),
        terms={"ce": "ce", "text": "text", "image": "image"},
        weighted=True,
        outputs={
            "logits": lambda method, fwd: method.route(fwd, SEEN),
            "image_features": lambda method, fwd: fwd.image(),
            "text_features": lambda method, fwd: fwd.text(),
            "cluster_features": clusters,
            "described_features": lambda method, fwd: method.described(fwd),  # type: ignore[operator]
        },
        buffers={"clusters": "cluster_features"},
        before_step=before_step,
    )

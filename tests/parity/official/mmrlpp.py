"""MMRL++."""

from __future__ import annotations

from tests.parity.official.mmrl import MMRL_OUTPUTS, MMRL_TERMS, mmrl_options
from tests.parity.official.names import Official

TRAINER = "mmrlpp"


def official() -> Official:
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

"""PromptSRC."""

from __future__ import annotations

from tests.parity.official.names import Official

TRAINER = "promptsrc"


def official() -> Official:
    return Official(
        method="promptsrc",
        options=lambda hyper, oracle: {
            "text_tokens": hyper["N_CTX_TEXT"],
            "image_tokens": hyper["N_CTX_VISION"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "text_depth": hyper["PROMPT_DEPTH_TEXT"],
            "image_depth": hyper["PROMPT_DEPTH_VISION"],
            "text_weight": hyper["TEXT_LOSS_WEIGHT"],
            "image_weight": hyper["IMAGE_LOSS_WEIGHT"],
            "average_mean": hyper["GPA_MEAN"],
            "average_std": hyper["GPA_STD"],
        },
        names=(
            (r"prompt_learner\.ctx", "contexts.0"),
            (r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"contexts.\1"),
            (r"image_encoder\.VPT", "tokens.0"),
            (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"tokens.\1"),
        ),
        terms={"ce": "ce", "scl_text": "text", "scl_image": "image", "scl_logits": "logits"},
        weighted=True,
    )

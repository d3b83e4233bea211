"""MaPLe."""

from __future__ import annotations

from tests.parity.official.names import Official

TRAINER = "maple"


def official() -> Official:
    return Official(
        method="maple",
        options=lambda hyper, oracle: {
            "tokens": hyper["N_CTX"],
            "words": hyper["CTX_INIT"].replace("_", " "),
            "depth": hyper["PROMPT_DEPTH"],
        },
        names=(
            (r"prompt_learner\.ctx", "context"),
            (r"prompt_learner\.proj\.(weight|bias)", r"couple.\1"),
            (r"prompt_learner\.compound_prompts_text\.(\d+)", r"deep.\1"),
            (r"prompt_learner\.compound_prompt_projections\.(\d+)\.(weight|bias)", r"couple_deep.\1.\2"),
        ),
        terms={"ce": "ce"},
    )

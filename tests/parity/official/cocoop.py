"""CoCoOp."""

from __future__ import annotations

from tests.parity.official.names import Official

TRAINER = "cocoop"


def official() -> Official:
    return Official(
        method="cocoop",
        options=lambda hyper, oracle: {"tokens": hyper["N_CTX"], "words": hyper["CTX_INIT"].replace("_", " ")},
        names=(
            (r"prompt_learner\.ctx", "context"),
            (r"prompt_learner\.meta_net\.linear1\.(\w+)", r"meta_net.0.\1"),
            (r"prompt_learner\.meta_net\.linear2\.(\w+)", r"meta_net.2.\1"),
        ),
        terms={"ce": "ce"},
    )

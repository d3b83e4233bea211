"""TaskRes, in the code of CLAP."""

from __future__ import annotations

from tests.parity.official.names import Official
from tests.parity.official.zslp import OUTPUTS

METHOD = "taskres"


def official() -> Official:
    return Official(
        method="taskres",
        options=lambda hyper, oracle: {"alpha": hyper["alpha"]},
        names=(("prototypes", "residual"),),
        terms={"ce": "ce"},
        routed=("logits",),
        outputs=OUTPUTS,
    )

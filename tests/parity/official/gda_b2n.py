"""GDA, the base-to-novel script."""

from __future__ import annotations

from tests.parity.official.gda import OUTPUTS
from tests.parity.official.names import Official

METHOD = "gda_b2n"


def official() -> Official:
    return Official(
        method="gda-unseen",
        options=lambda hyper, oracle: {
            "passes": hyper["augment_epoch"],
            "alpha": hyper["alpha"],
            **({"alphas": hyper["alphas"]} if "alphas" in hyper else {}),
            "neighbours": hyper["k"],
            "text_repeats": hyper["text_repeats"],
        },
        routed=("logits", "logits_searched"),
        outputs=OUTPUTS,
        finished=("logits_searched",),
    )

"""ProVP-Ref."""

from __future__ import annotations

from tests.parity.official.names import Official

TRAINER = "provp"


def official() -> Official:
    return Official(
        method="provp",
        options=lambda hyper, oracle: {
            "tokens": hyper["N_CTX"],
            "flow": hyper["alpha"],
            "reg_weight": hyper["Lam"] if hyper["USE_REF"] else 0.0,
            "over_patches": hyper["N_CTX"] <= 4,
        },
        names=((r"prompt_learner\.prompt_embeddings", "tokens"),),
        terms={"ce": "ce", "reformation": "reformation"},
        weighted=True,
        outputs={"teacher_text_features": lambda method, x: x.text()},
    )

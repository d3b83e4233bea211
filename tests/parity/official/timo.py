"""TIMO and TIMO-S."""

from __future__ import annotations

from tests.parity.official.names import Official, Output

METHOD = "timo"


def official() -> Official:
    outputs: dict[str, Output] = {
        "clip_weights": lambda method, x: method.get_buffer("text"),
        "W": lambda method, x: method.get_buffer("weight").T,
        "b": lambda method, x: method.get_buffer("bias"),
    }
    return Official(
        method="timo",
        options=lambda hyper, oracle: {
            "passes": hyper["augment_epoch"],
            "gamma": hyper["gamma"],
            "alpha": hyper["alpha"],
            "search": hyper["search"],
        },
        routed=("logits", "logits_searched"),
        outputs={**outputs, **{f"{name}_searched": output for name, output in outputs.items()}},
        finished=("logits_searched", *(f"{name}_searched" for name in outputs)),
        plain=True,
    )

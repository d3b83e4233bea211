"""DPC."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.official import coop
from tests.parity.official.names import Official, Options
from vlmadapt.plugin import SEEN, UNSEEN, ForwardPass, Method, total
from vlmadapt_wrappers.dpc import DPC, Negatives, hard_negatives

METHOD = "dpc"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "wraps": "coop",
            "options": coop.official().options(hyper, oracle),
            "topk": hyper["INFER_TOPK"],
            "weight": hyper["WEIGHT"],
            "unseen": hyper["WEIGHT_FOR_NEW"],
        }

    return Official(
        method="dpc",
        options=options,
        names=((r"prompt_learner\.ctx", "inner.context"), (r"prompt_learner\.parallel", "parallel.context")),
        terms={"ce": "ce"},
        later=("parallel.context",),
        outputs={"output": scores},
        before_step=join_recorded_classes,
        loss=lambda terms: total(term._replace(weight=1.0) for term in terms),
    )


def scores(method: Method, fwd: ForwardPass) -> Tensor:
    """What the official run of a stage gives: in the first one there are no other prompts yet."""
    assert isinstance(method, DPC)
    if not method.second_stage:
        method.copy_prompts()
    return method.route(fwd, SEEN if fwd.names == method.trained_classes else UNSEEN)


def join_recorded_classes(method: Method, oracle: Any, step: int) -> None:
    """In the second stage the classes that joined the batch in the official run, some of them at random."""
    assert isinstance(method, DPC)
    if method.second_stage:
        pairs, labels = oracle.settings["pairs"][step], oracle.settings["inputs"]["labels"]["values"]
        size, start = oracle.settings["batch_size"], oracle.settings["steps"] + step
        batch = labels[start * size : (start + 1) * size]
        joined = torch.tensor([name for name in pairs if name not in batch])
        hard = oracle.settings["hard_negatives"][step]

        def choose(tuned: Tensor, labels: Tensor) -> Negatives:
            ours = hard_negatives(tuned, labels, method.config.topk)
            assert set(hard) <= set(ours.classes[ours.counted].tolist())
            return Negatives(joined, torch.ones_like(joined, dtype=torch.bool))

        method.choose = choose  # type: ignore[method-assign]

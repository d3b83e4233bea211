"""The mean of start and trained parameters: what it is and what it answers, for each weight of the mean."""

from __future__ import annotations

import pytest
import torch

from tests.parity.oracle import oracles
from tests.parity.support import FirstBatch
from tests.parity.test_parity import PLANS, Run, frozen_parts, run  # noqa: F401 - `run` is a fixture
from vlmadapt.plugin import SEEN

ORACLES = [oracle for oracle in oracles() if "alphas" in oracle.settings]


@pytest.mark.parametrize(
    "run",
    [pytest.param((o, plan), id=f"{o.name}-{plan}", marks=m) for o in ORACLES for plan, m in PLANS.items()],
    indirect=True,
)
@torch.no_grad()
def test_interpolation(run: Run) -> None:  # noqa: F811
    """Between the start and the end of the official fine-tuning."""
    (_, _, _, images), *_ = run.groups()
    labels = torch.zeros(len(images), dtype=torch.long)
    for alpha in run.settings["alphas"]:
        method = run.build({"alpha": alpha})
        support = FirstBatch(run.forward(method, "base", images, labels))
        run.load(method, run.oracle.under("init/"))
        method.prepare(support)
        run.load(method, run.oracle.under("final/"))
        method.eval().finish(support)
        wanted = run.oracle.under(f"alpha/{alpha}/")
        frozen = frozen_parts(method)
        for name, parameter in run.parameters(method).items():
            run.oracle.compare("final", f"{name} at {alpha}", parameter + frozen.get(parameter, 0), wanted[name])
        answers = method.route(run.forward(method, "base", images), SEEN)
        run.oracle.compare("logits", f"output at {alpha}", answers, wanted["output"])

"""Methods trained in two stages: the second stage of an oracle goes on where its first one ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.parity.oracle import Oracle, oracles
from tests.parity.support import FirstBatch
from tests.parity.test_parity import PLANS, Run, run, train  # noqa: F401 - `run` is a fixture
from tests.parity.trainer import RecordingTrainer
from vlmadapt.core.method import enter_cycle
from vlmadapt.core.recipe import Cycle
from vlmadapt.plugin import SEEN

ORACLES = [oracle for oracle in oracles() if "stage2_trainable" in oracle.settings]


@pytest.mark.parametrize(
    "run",
    [pytest.param((o, plan), id=f"{o.name}-{plan}", marks=m) for o in ORACLES for plan, m in PLANS.items()],
    indirect=True,
)
def test_second_stage(run: Run) -> None:  # noqa: F811
    """Start values, every step, the parameters after the last, and what is answered before and after."""
    train(run)
    images, labels = next(run.batches())
    with torch.no_grad():
        enter_cycle(run.method, Cycle(1, run.settings["steps"], run.settings["steps_stage2"]))
        run.method.cycle_start(1, FirstBatch(run.forward(run.method, "base", images, labels)))
    tuned = {name: p.detach().clone() for name, p in run.method.named_parameters()}
    second = replace(run.oracle, part="stage2/")
    compare_parameters(run, second, "init")
    evaluate(run, second, "eval0")
    train_second(run, second)
    compare_parameters(run, second, "final")
    evaluate(run, second, "eval5")
    trained = {run.official.name(name) for name in run.settings["stage2_trainable"]}
    assert trained == {name for name, p in run.method.named_parameters() if not torch.equal(p, tuned[name])}


def train_second(run: Run, second: Oracle) -> None:  # noqa: F811
    trainer = RecordingTrainer(run.method, run.optimizer())
    run.method.train()
    batches = run.batches(run.settings["steps"], run.settings["steps_stage2"])
    for step, (images, labels) in enumerate(batches):
        run.official.before_step(run.method, run.oracle, step)
        terms = run.method.training_step(run.forward(run.method, "base", images, labels), trainer)
        second.compare("loss", f"loss at step {step}", run.official.loss(terms), second.arrays["loss"][step])
    for name, theirs in second.under("grad0/").items():
        gradient = trainer.first[run.official.name(name)]
        assert gradient is not None
        second.compare("grad0", f"grad0/{name}", gradient, theirs)


def compare_parameters(run: Run, second: Oracle, stage: str) -> None:  # noqa: F811
    parameters = dict(run.method.named_parameters())
    for name, shape in run.settings["stage2_trainable"].items():
        parameter = parameters[run.official.name(name)]
        assert list(parameter.shape) == shape
        second.compare("final", f"{stage}/{name}", parameter, second.arrays[f"{stage}/{name}"])


@torch.no_grad()
def evaluate(run: Run, second: Oracle, stage: str) -> None:  # noqa: F811
    """Answers for trained, new and mixed classes; the names alone say which are which."""
    (_, _, _, images), *_ = run.groups()
    run.method.eval()
    for group, classes in run.settings["stage2_eval_classes"].items():
        fwd = run.forward(run.method, classes, images)
        for name, theirs in second.under(f"{stage}/{group}/").items():
            compute = run.official.outputs.get(name)
            ours = compute(run.method, fwd) if compute else run.method.route(fwd, SEEN)
            kind = "features" if "features" in name else "logits"
            second.compare(kind, f"{stage}/{group}/{name}", ours, theirs)

"""Every method against the numbers of its official implementation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity import tiny_clip
from tests.parity.official import OFFICIAL
from tests.parity.official.names import Official
from tests.parity.oracle import Oracle, oracles
from tests.parity.trainer import RecordingTrainer
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import Forward
from vlmadapt.core.method import SEEN, UNSEEN, Method, Task
from vlmadapt.core.plan import Rules
from vlmadapt.core.templates import Template

ORACLES = oracles()
BACKBONES: dict[str, Backbone] = {}


@dataclass
class Run:
    """A method set up as its oracle was, under one plan."""

    oracle: Oracle
    official: Official
    backbone: Backbone
    plan: str

    def __post_init__(self) -> None:
        self.engine = Engine(self.backbone, Rules.named(self.plan))
        self.settings = self.oracle.settings
        self.method = self.build({})
        init = self.oracle.under("init/")
        if init:
            self.load(self.method, init)

    def build(self, changes: dict[str, Any]) -> Method:
        options = self.official.options(self.settings.get("hyperparameters", {}), self.settings)
        templates = (self.settings["template"],) if self.settings["template"] else ("a photo of a {}.",)
        task = Task(tuple(self.settings["base_classes"]), templates)
        self.templates = [Template.parse(text) for text in templates]
        return build_method(self.official.method, self.backbone, task, {**options, **changes})

    def parameters(self, method: nn.Module) -> dict[str, nn.Parameter]:
        """The method's parameters by their official names."""
        ours = dict(method.named_parameters())
        named = {name: ours.pop(self.official.name(name)) for name in self.settings["trainable"]}
        assert not ours, f"parameters without a counterpart in the official code: {sorted(ours)}"
        return named

    @torch.no_grad()
    def load(self, method: Method, values: dict[str, Tensor]) -> None:
        parameters = self.parameters(method)
        assert parameters.keys() == values.keys()
        for name, parameter in parameters.items():
            parameter.copy_(values[name])

    def forward(self, method: Method, classes: str, images: Tensor, labels: Tensor | None = None) -> Forward:
        return Forward(self.engine, method, self.settings[f"{classes}_classes"], self.templates, images, labels)

    def evaluate(self, stage: str) -> None:
        """All outputs of a stage, for base and for novel classes."""
        chosen = self.settings["inputs"]["eval_images"]
        images = tiny_clip.inputs(chosen["seed"], chosen["n"], self.settings["inputs"]["resolution"])
        for classes, role in (("base", SEEN), ("novel", UNSEEN)):
            wanted = self.oracle.under(f"{stage}/{classes}/")
            if classes == "base":
                wanted |= {k: v for k, v in self.oracle.under(f"{stage}/").items() if "/" not in k}
            for name, theirs in wanted.items():
                method, output = self.method, self.official.outputs.get(name)
                if name in self.official.variants:
                    changes, output = self.official.variants[name]
                    method = self.build(changes)
                    method.load_state_dict(self.method.state_dict())
                with torch.no_grad():
                    x = self.forward(method, classes, images)
                    ours = method.route(x, role) if name == "output" else (output(method, x) if output else x.logits())
                group = "features" if "features" in name else "logits"
                self.oracle.compare(group, f"{stage}/{classes}/{name}", ours, theirs)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = self.settings["inputs"]
        size, count = self.settings["batch_size"], chosen["train_images"]["n"]
        images = tiny_clip.inputs(chosen["train_images"]["seed"], count, chosen["resolution"])
        labels = torch.tensor(chosen["labels"]["values"])
        yield from zip(images.split(size), labels.split(size), strict=True)

    def optimizer(self) -> torch.optim.Optimizer:
        given = {k: v for k, v in self.settings["optimizer"].items() if k not in ("name", "schedule")}
        return getattr(torch.optim, self.settings["optimizer"]["name"])(self.method.parameters(), **given)


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    oracle, plan = request.param
    if oracle.trainer not in OFFICIAL:
        pytest.skip(f"{oracle.settings['method']}: this method is not implemented")
    key = str(sorted(oracle.settings["backbone"].items()))
    if key not in BACKBONES:
        BACKBONES[key] = tiny_clip.load(tmp_path_factory.mktemp("backbone"), oracle.settings["backbone"])
    return Run(oracle, OFFICIAL[oracle.trainer], BACKBONES[key], plan)


everywhere = pytest.mark.parametrize(
    "run",
    [pytest.param((o, plan), id=f"{o.name}-{plan}") for o in ORACLES for plan in ("reference", "planned")],
    indirect=True,
)


def test_there_are_oracles() -> None:
    assert ORACLES


@everywhere
def test_parity(run: Run) -> None:
    """Parameters, evaluation before training, every step of training, evaluation after it."""
    oracle = run.oracle
    shapes = {name: list(p.shape) for name, p in run.parameters(run.method).items()} if oracle.under("init/") else {}
    assert shapes == oracle.settings.get("trainable", {})
    assert sum(p.numel() for p in run.method.parameters()) == oracle.settings.get("trainable_total", 0)
    run.evaluate("eval0")
    if "loss" in oracle.arrays:
        train(run)
        for name, parameter in run.parameters(run.method).items():
            oracle.compare("final", f"final/{name}", parameter, oracle.arrays[f"final/{name}"])
        run.evaluate("eval5")


def train(run: Run) -> None:
    oracle, trainer = run.oracle, RecordingTrainer(run.method, run.optimizer())
    for step, (images, labels) in enumerate(run.batches()):
        run.official.before_step(run.method, oracle, step)
        terms = run.method.training_step(run.forward(run.method, "base", images, labels), trainer)
        oracle.compare("loss", f"loss at step {step}", run.official.loss(terms), oracle.arrays["loss"][step])
        if step == 0:
            parts = {name: value for name, _, value in terms}
            for official, theirs in oracle.under("loss0/").items():
                oracle.compare("loss", f"loss0/{official}", parts[run.official.terms[official]], theirs)
            for name in oracle.under("grad0/"):
                gradient = trainer.first[run.official.name(name)]
                assert gradient is not None, name
                oracle.compare("grad0", f"grad0/{name}", gradient, oracle.arrays[f"grad0/{name}"])

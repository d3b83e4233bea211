"""Every method against the numbers of its official implementation."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity import tiny_clip
from tests.parity.official import official_of
from tests.parity.official.names import Official, Output, templates_of
from tests.parity.oracle import Oracle, oracles
from tests.parity.support import OracleSupport
from tests.parity.trainer import RecordingTrainer
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.descriptions import ClassDescriptions
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.image_bank import ImageBank
from vlmadapt.core.method import Method, Task
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.templates import Template
from vlmadapt.core.trained_copy import TrainedCopy, decay_copies_to_zero
from vlmadapt.roles import SEEN, UNSEEN, Role

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
        self.engine = Engine(self.backbone, Optimizations.named(self.plan))
        self.settings = self.oracle.settings
        self.method = self.build({})
        self.support: OracleSupport | None = None
        init = self.oracle.under("init/")
        if "support_images" in self.settings["inputs"]:
            self.support = self.prepare(self.method)
        elif init:
            self.load(self.method, init)

    @torch.no_grad()
    def prepare(self, method: Method, start: bool = True) -> OracleSupport:
        """Give a method the support set; with `start` it is where the official code starts from."""
        support = OracleSupport(self.settings, partial(self.forward, method, "base"))
        method.prepare(support)
        if start and self.official.start:
            self.official.start(method, support)
        for name in self.official.drawn:
            method.get_parameter(self.official.name(name)).copy_(self.oracle.arrays[f"init/{name}"])
        return support

    def build(self, changes: dict[str, Any]) -> Method:
        options = self.official.options(self.settings.get("hyperparameters", {}), self.settings)
        templates = self.written()
        task = Task(tuple(self.settings["base_classes"]), templates)
        self.templates = [Template.parse(text) for text in templates]
        return build_method(self.official.method, self.backbone, task, {**options, **changes})

    def written(self) -> tuple[str, ...]:
        """The data set's templates: stated, or read from the texts of the frozen features."""
        if "templates" in self.settings:
            return tuple(self.settings["templates"])
        if self.settings["template"]:
            return (self.settings["template"],)
        prompts = self.settings.get("prompts", {}).get("base", {})
        texts = prompts if self.official.plain else prompts.get("teacher")
        if not texts or isinstance(texts, list):  # none, or descriptions of each class
            return ("a photo of a {}.",)
        return templates_of(texts, self.settings["base_classes"])

    def again(self, part: str, changes: dict[str, Any]) -> Run:
        """The same start with other options, against one part of the arrays."""
        run = replace(self, oracle=replace(self.oracle, part=part))
        run.method = run.build(changes)
        run.load(run.method, self.oracle.under("init/"))
        return run

    def solved(self, part: str, changes: dict[str, Any]) -> Run:
        """A closed-form solution with other options, against one part of the arrays."""
        run = replace(self, oracle=replace(self.oracle, part=part))
        run.method = run.build(changes)
        run.support = run.prepare(run.method, start=False)
        return run

    def parameters(self, method: nn.Module) -> dict[str, nn.Parameter]:
        """The method's parameters by their official names."""
        ours = dict(method.named_parameters())
        named = {name: ours.pop(self.official.name(name)) for name in self.settings.get("trainable", {})}
        for name in self.settings.get("never_trained", {}):
            assert not ours.pop(self.official.name(name)).requires_grad
        ours = {name: parameter for name, parameter in ours.items() if name not in self.official.later}
        assert not ours, f"parameters without a counterpart in the official code: {sorted(ours)}"
        return named

    @torch.no_grad()
    def load(self, method: Method, values: dict[str, Tensor]) -> None:
        parameters = self.parameters(method)
        for name in self.settings.get("never_trained", {}):
            parameters[name] = method.get_parameter(self.official.name(name))
        assert parameters.keys() == values.keys()
        frozen = frozen_parts(method)
        for name, parameter in parameters.items():
            parameter.copy_(values[name] - frozen.get(parameter, 0))
        for name, array in self.official.buffers.items():
            method.get_buffer(name).copy_(self.oracle.arrays[f"aux/{array}"])

    def forward(
        self, method: Method, classes: str | list[str], images: Tensor, labels: Tensor | None = None
    ) -> ForwardPass:
        names = self.settings[f"{classes}_classes"] if isinstance(classes, str) else classes
        return ForwardPass(self.engine, method, names, self.templates, images, labels, self.described(), self.bank)

    @cached_property
    def bank(self) -> ImageBank | None:
        """One image of each class that a step may draw, where the oracle has some."""
        chosen = self.settings["inputs"].get("images_by_class")
        if chosen is None:
            return None
        bank = ImageBank(torch.arange(chosen["n"]), chosen["n"], encoded=False)
        bank.show([tiny_clip.inputs(chosen["seed"], chosen["n"], self.settings["inputs"]["resolution"])])
        return bank

    def described(self) -> ClassDescriptions:
        """The sentences of each class, where the oracle has some."""
        found: dict[str, list[str]] = {}
        for group, texts in self.settings.get("prompts", {}).items():
            if isinstance(texts.get("teacher"), list):
                names = self.settings[f"{group}_classes"]
                found |= {name: given["text"] for name, given in zip(names, texts["teacher"], strict=True)}
        return ClassDescriptions(found)

    def groups(self) -> Iterator[tuple[str, str, Role, Tensor]]:
        """What is evaluated: its name, its classes, their role, the images."""
        chosen = self.settings["inputs"]["eval_images"]
        images = tiny_clip.inputs(chosen["seed"], chosen["n"], self.settings["inputs"]["resolution"])
        yield "base", "base", SEEN, images
        yield "novel", "novel", UNSEEN, images
        if "val_images" in self.settings["inputs"] and self.support:
            yield "val", "base", SEEN, self.support.validation_images()

    def variant(self, name: str) -> tuple[Method, Output | None]:
        """The method that an array was computed with, and how."""
        if name in self.official.variants:
            changes, output = self.official.variants[name]
            method = self.build(changes)
            method.load_state_dict(self.method.state_dict())
            return method, output
        if name in self.official.finished and self.support:
            method = deepcopy(self.method)
            method.finish(self.support)
            return method, self.official.outputs.get(name)
        return self.method, self.official.outputs.get(name)

    @torch.no_grad()
    def evaluate(self, stage: str) -> None:
        """All outputs of a stage, for base and for novel classes."""
        for group_name, classes, role, images in self.groups():
            wanted = self.oracle.under(f"{stage}/{group_name}/")
            if group_name == "base":
                wanted |= {k: v for k, v in self.oracle.under(f"{stage}/").items() if "/" not in k}
                if stage == "eval0":
                    known = self.official.outputs.keys()
                    wanted |= {k: v for k, v in self.oracle.under("aux/").items() if k in known}
            for name, theirs in wanted.items():
                method, output = self.variant(name)
                method.eval()
                x = self.forward(method, classes, images)
                method.stream_start(x.names, role)
                routed = name in ("output", *self.official.routed)
                ours = output(method, x) if output else method.route(x, role) if routed else x.logits()
                group = name if name in self.settings["tolerance"] else "features" if "features" in name else "logits"
                self.oracle.compare(group, f"{stage}/{group_name}/{name}", ours, theirs)

    def batches(self, start: int = 0, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches from `start` on, by default those of the first stage."""
        chosen = self.settings["inputs"]
        if "train_batches" in chosen and self.support:
            yield from self.row_batches(self.support)
            return
        size, count = self.settings["batch_size"], chosen["train_images"]["n"]
        others = [chosen["train_images_second"]] if "train_images_second" in chosen else chosen.get("other_views", [])
        seeds = [given["seed"] for given in (chosen["train_images"], *others)]
        images = torch.stack([tiny_clip.inputs(seed, count, chosen["resolution"]) for seed in seeds], dim=1)
        images = images if others else images[:, 0]
        labels = torch.tensor(chosen["labels"]["values"])
        stop = start + (self.settings["steps"] if steps is None else steps)
        yield from islice(zip(images.split(size), labels.split(size), strict=True), start, stop)

    def row_batches(self, support: OracleSupport) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of rows of the cached passes; labels are those of all batches, or of one that is repeated."""
        rows = self.settings["inputs"]["train_batches"]["rows"]
        labels = torch.tensor(self.settings["inputs"]["labels"]["values"])
        start = 0
        for chosen in rows:
            yield support.rows(chosen), labels[start : start + len(chosen)]
            start = (start + len(chosen)) % len(labels)

    def optimizer(self) -> torch.optim.Optimizer:
        given = {k: v for k, v in self.settings["optimizer"].items() if k not in ("name", "schedule")}
        given |= {} if self.official.lr is None else {"lr": self.official.lr}
        kind = getattr(torch.optim, self.settings["optimizer"]["name"])
        optimizer: torch.optim.Optimizer = kind(self.method.parameters(), **given)
        decay_copies_to_zero(optimizer, self.method.modules())
        return optimizer


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    oracle, plan = request.param
    official = official_of(*oracle.run)
    if official is None:
        pytest.skip(f"{oracle.settings['method']}: this method is not implemented")
    key = str(sorted(oracle.settings["backbone"].items()))
    if key not in BACKBONES:
        BACKBONES[key] = tiny_clip.load(tmp_path_factory.mktemp("backbone"), oracle.settings["backbone"])
    return Run(oracle, official, BACKBONES[key], plan)


# Official code computes the frozen texts once too; to do so at every step, with up to 60 templates, takes minutes.
PLANS: dict[str, Any] = {
    "planned": (),
    "reference+keep-teacher": pytest.mark.slow,  # equal to `planned` in tests/plugins/test_rules.py
    "reference": pytest.mark.slow,
}

# With 80 texts for each class, or a second oracle of the same method.
SLOW = {
    ("mmapp", "planned"),
    ("mmapp", "reference+keep-teacher"),
    ("mmapp_strong", "reference+keep-teacher"),
    ("lweib_strong", "planned"),
    ("tac_shallow", "planned"),
}

everywhere = pytest.mark.parametrize(
    "run",
    [
        pytest.param((o, plan), id=f"{o.name}-{plan}", marks=pytest.mark.slow if (o.name, plan) in SLOW else mark)
        for o in ORACLES
        for plan, mark in PLANS.items()
    ],
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
    trained = run.parameters(run.method).values() if shapes else run.method.parameters()
    assert sum(p.numel() for p in trained) == oracle.settings.get("trainable_total", 0)
    if run.support:
        compare_parameters(run, "init")
    run.evaluate("eval0")
    if "loss" in oracle.arrays:
        train(run)
    for part, changes in run.official.solved(run.settings).items():
        solution = run.solved(part, changes)
        compare_parameters(solution, "final")
        solution.evaluate("eval5")
    for name, changes in run.official.runs.items():
        if oracle.under(f"{name}/"):
            train(run.again(f"{name}/", changes))
    if oracle.under("gpa/"):
        run.method.epoch_end(oracle.settings["steps"] - 1, oracle.settings["steps"])
        compare_parameters(run, "gpa")
        run.evaluate("eval5_gpa")


def train(run: Run) -> None:
    """Every step, the parameters after the last, and what they answer."""
    oracle, trainer = run.oracle, RecordingTrainer(run.method, run.optimizer())
    for step, (images, labels) in enumerate(run.batches()):
        if "lr_per_step" in oracle.settings:
            trainer.set_lr(oracle.settings["lr_per_step"][step])
        run.method.train()
        run.official.before_step(run.method, oracle, step)
        epoch, place = divmod(step, oracle.settings.get("batches_per_epoch", 1))
        if run.official.epochs and place == 0:
            run.method.epoch_start(epoch, oracle.settings["steps"])
        terms = run.method.training_step(run.forward(run.method, "base", images, labels), trainer)
        oracle.compare("loss", f"loss at step {step}", run.official.loss(terms), oracle.arrays["loss"][step])
        for official in run.official.terms.keys() & {k.removeprefix("loss_") for k in oracle.arrays}:
            ours, theirs = run.official.term(official, terms), oracle.arrays[f"loss_{official}"][step]
            oracle.compare("loss", f"{official} at step {step}", ours, theirs)
        for name in run.official.steps.keys() & oracle.arrays.keys():
            ours = run.official.steps[name](terms)
            oracle.compare("loss", f"{name} at step {step}", ours, oracle.arrays[name][step])
        gpa = oracle.under("gpa/") and step < oracle.settings["steps"] - 1  # each step of this run was an epoch
        if run.official.epochs and place == oracle.settings.get("batches_per_epoch", 1) - 1:
            run.method.epoch_end(epoch, oracle.settings["steps"])
        if gpa:
            run.method.epoch_end(step, oracle.settings["steps"])
        if step == 0:
            for official, theirs in oracle.under("loss0/").items():
                if official in run.official.unused:
                    continue
                oracle.compare("loss", f"loss0/{official}", run.official.term(official, terms), theirs)
            asked = {f"grad0_{name}/": trainer.asked[i] for name, i in run.official.gradients.items()}
            own_rate = run.official.lr is not None  # the gradients applied are multiplied by the method's own rate
            first = trainer.asked[0] if own_rate else trainer.first
            for kind, gradients in {"grad0/": first, **asked}.items():
                for name, theirs in oracle.under(kind).items():
                    gradient = gradients[run.official.name(name)]  # none: it takes no part
                    ours = torch.zeros_like(theirs) if gradient is None else gradient
                    oracle.compare("grad0", f"{kind}{name}", ours, theirs)
    compare_parameters(run, "final")
    run.evaluate("eval5")


def frozen_parts(method: nn.Module) -> dict[Tensor, Tensor]:
    """What official parameters have in addition to this library's, by this library's."""
    return {part.difference: part.frozen for part in method.modules() if isinstance(part, TrainedCopy)}


def compare_parameters(run: Run, stage: str) -> None:
    frozen = frozen_parts(run.method)
    for name, trained in run.parameters(run.method).items():
        parameter = trained + frozen.get(trained, 0)
        group = name if name in run.settings["tolerance"] else "final"
        theirs = run.oracle.arrays.get(f"{stage}/{name}")
        if theirs is not None or parameter.numel() <= 1024:  # some oracles leave large final tensors out
            run.oracle.compare(group, f"{stage}/{name}", parameter, run.oracle.arrays[f"{stage}/{name}"])

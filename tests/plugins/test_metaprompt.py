"""MetaPrompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.parity.tiny_clip import inputs
from tests.parity.trainer import RecordingTrainer
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import LossTerm, Method, Task, total

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


def make(backbone: Backbone, options: dict[str, Any]) -> Method:
    torch.manual_seed(0)
    return build_method("metaprompt", backbone, TASK, options)


def step(
    backbone: Backbone,
    method: Method,
    names: tuple[str, ...] = small.NAMES,
    labels: Tensor = LABELS,
    momentum: float = 0.0,
) -> list[LossTerm]:
    torch.manual_seed(1)
    x = Classifier(backbone, method, TEMPLATES).forward(inputs(1, len(labels), 16), names, labels)
    return method.training_step(
        x, RecordingTrainer(method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=momentum))
    )


def plain_step(
    backbone: Backbone, method: Method, names: tuple[str, ...] = small.NAMES, labels: Tensor = LABELS
) -> None:
    x = Classifier(backbone, method, TEMPLATES).forward(inputs(1, len(labels), 16), names, labels)
    RecordingTrainer(method, torch.optim.SGD(method.parameters(), lr=0.1)).backward_and_step(total(method.losses(x)))


def same(a: Method, b: Method, name: str) -> bool:
    return torch.allclose(a.get_parameter(name), b.get_parameter(name), atol=1e-7)


def test_published_count() -> None:
    assert trainable_count(build_method("metaprompt", untrained("ViT-B-16"), TASK)) == 30_720


@pytest.mark.parametrize(("undo", "kept"), [("both", False), ("first", True)])
def test_inner_steps_are_undone(backbone: Backbone, undo: str, kept: bool) -> None:
    """Without a meta update what is left of the episodes is what was not undone."""
    method, plain = (make(backbone, {"undo": undo, "meta_step": 0.0}) for _ in range(2))
    terms = step(backbone, method)
    plain_step(backbone, plain)
    assert [name for name, weight, _ in terms if not weight] == ["inner 1", "outer 1", "inner 2", "outer 2"]
    assert same(method, plain, "context") != kept


def test_the_meta_update_moves_contexts_only(backbone: Backbone) -> None:
    method, plain = (make(backbone, {"undo": "both"}) for _ in range(2))
    step(backbone, method)
    plain_step(backbone, plain)
    assert not same(method, plain, "context")
    assert same(method, plain, "tokens")


@pytest.mark.parametrize("drift", [False, True])
def test_image_tokens_rest_in_the_inner_steps_unless_they_drift(backbone: Backbone, drift: bool) -> None:
    method, plain = (make(backbone, {"drift": drift}) for _ in range(2))
    step(backbone, method, momentum=0.9)
    plain_step(backbone, plain)
    assert same(method, plain, "tokens") != drift


@pytest.mark.parametrize(
    ("names", "labels"),
    [(small.NAMES[:2], torch.tensor([0, 1, 1])), (small.NAMES, torch.tensor([2, 2, 2]))],
    ids=["one class a half", "images of one half only"],
)
def test_episodes_that_cannot_be_played_are_left_out(
    backbone: Backbone, names: tuple[str, ...], labels: Tensor
) -> None:
    method, plain = (make(backbone, {}) for _ in range(2))
    terms = step(backbone, method, names, labels)
    plain_step(backbone, plain, names, labels)
    assert [name for name, _, _ in terms] == ["average", "image", "text"]
    assert same(method, plain, "context")


def test_prompted_towers_never_meet(backbone: Backbone) -> None:
    """Each branch depends on the tokens of its own tower alone."""
    method = make(backbone, {})
    x = Classifier(backbone, method, TEMPLATES).forward(inputs(1, 3, 16), small.NAMES, LABELS[:3])
    losses = {name: value for name, _, value in method.losses(x)}
    for branch, touched in (("image", "tokens"), ("text", "context")):
        gradients = torch.autograd.grad(losses[branch], list(method.parameters()), retain_graph=True, allow_unused=True)
        names = [name for name, _ in method.named_parameters()]
        assert [name for name, g in zip(names, gradients, strict=True) if g is not None] == [touched]

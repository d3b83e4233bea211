"""A method on a small backbone, for the tests of methods that work in the text tower."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import Method, Task, trainable_count
from vlmadapt.core.templates import Template

TEMPLATE = "a photo of a {}."
LABELS = (0, 3, 1, 4)


@cache
def backbone() -> Backbone:
    with tempfile.TemporaryDirectory() as folder:
        return small.backbone(Path(folder))


@cache
def vit_b_16() -> Backbone:
    return untrained("ViT-B-16")


def build(name: str, on: Backbone | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return build_method(name, on or backbone(), Task(small.NAMES, (TEMPLATE,)), options)


def published_count(name: str, **options: Any) -> int:
    """Trainable parameters on CLIP ViT-B/16."""
    return trainable_count(build(name, on=vit_b_16(), **options))


def forward(method: Method, names: Sequence[str] = small.NAMES, images: Tensor | None = None) -> ForwardPass:
    """A labelled batch of four images."""
    images = inputs(1, len(LABELS), 16) if images is None else images
    labels = torch.tensor(LABELS)[: len(images)]
    return ForwardPass(Engine(backbone()), method, names, [Template.parse(TEMPLATE)], images, labels)


@torch.no_grad()
def disturb(*parameters: nn.Parameter) -> None:
    """Move parameters away from a start that may be degenerate."""
    for parameter in parameters:
        parameter.add_(torch.randn_like(parameter), alpha=0.1)


class StillTrainer:
    """Computes gradients, keeps what is to be applied, steps nothing."""

    lr = 0.0

    def __init__(self, method: Method):
        self.method = method
        self.applied: list[Tensor | None] = []

    def backward_and_step(self, loss: Tensor) -> None:
        self.apply(self.gradients(loss))

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        return list(torch.autograd.grad(loss, list(self.method.parameters()), retain_graph=True, allow_unused=True))

    def apply(self, gradients: list[Tensor | None]) -> None:
        self.applied = gradients

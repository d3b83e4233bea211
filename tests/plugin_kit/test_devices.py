"""Calls that a GPU refuses are found on the CPU, with operator, file and line; those that it takes are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vlmadapt.testing.devices import as_on_a_gpu

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("call", "operator"),
    [
        (lambda x: x + torch.ones(3), "aten::add.Tensor"),
        (lambda x: x[None] @ torch.rand(3, 3), "aten::mm"),
        (lambda x: torch.cat([x, torch.arange(3.0)]), "aten::cat"),
        (lambda x: x + x.cpu(), "aten::add.Tensor"),
        (lambda x: x + x.to("cpu"), "aten::add.Tensor"),
        (lambda x: x * torch.tensor([1.0, 2.0, 3.0])[:3], "aten::mul.Tensor"),
        (lambda x: torch.zeros(3)[x.long()], "aten::index.Tensor"),
        (lambda x: x.index_select(0, torch.tensor([1])), "aten::index_select"),
        (lambda x: torch.where(x > 0, x, torch.zeros(3)), "aten::where.self"),
        (lambda x: x.numpy(), "Tensor.numpy"),
        (lambda x: np.asarray(x) + 1, "Tensor.__array__"),
    ],
)
def test_what_a_gpu_refuses_is_found_with_its_line(call: Callable[[Tensor], object], operator: str) -> None:
    x = torch.randn(3)
    with as_on_a_gpu([x]) as meetings:
        call(x)
    assert [meeting.operator for meeting in meetings] == [operator]
    place = meetings[0].place
    line = call.__code__.co_firstlineno  # type: ignore[attr-defined]
    assert (Path(place.file).name, place.line) == ("test_devices.py", line)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + torch.ones(3, device=x.device) + x.new_ones(3) + torch.zeros_like(x),
        lambda x: x + torch.ones(3).to(x.device),
        lambda x: x + torch.ones(3).to(x),
        lambda x: x * torch.tensor(2.0) + 1,
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.clone().copy_(torch.ones(3)),
        lambda x: torch.tensor([1.0, 2.0, 3.0], device=x.device) + x,
        lambda x: x.cpu().numpy() + np.ones(3),
        lambda x: x.cpu() + torch.ones(3),
        lambda x: torch.nn.functional.one_hot(x.cpu().long() % 3, 3) * torch.ones(3),
        lambda x: torch.zeros_like(torch.ones(3), device=x.device) + x,
        lambda x: torch.as_tensor(torch.ones(3), device=x.device) + x,
        lambda x: nn.Linear(3, 2).to(x.device)(x),
    ],
)
def test_what_a_gpu_takes_is_not_found(call: Callable[[Tensor], object]) -> None:
    x = torch.randn(3)
    with as_on_a_gpu([x]) as meetings:
        call(x)
    assert meetings == []


def test_a_module_that_was_not_moved_is_found() -> None:
    x = torch.randn(3)
    with as_on_a_gpu([x]) as meetings:
        nn.Linear(3, 2)(x)
    assert len(meetings) == 1


def test_a_backward_pass_is_followed() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * weights

    x = torch.randn(3, requires_grad=True)
    with as_on_a_gpu([x]) as meetings:
        torch.autograd.grad((x * x).sum(), x)
        assert meetings == []
        weights = torch.ones(3)
        torch.autograd.grad(Scaled.apply(x).sum(), x)
    assert [meeting.place.function for meeting in meetings] == ["backward"]


def test_values_are_those_of_the_cpu() -> None:
    x, y = torch.randn(3), torch.randn(3, 2)
    expected = x @ y
    with as_on_a_gpu([x]):
        found = x @ y.to(CPU)
    assert torch.equal(found, expected)

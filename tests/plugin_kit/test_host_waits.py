"""Host waits are found on the CPU, with operator, file and line; what a GPU does without waiting is not reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlmadapt.core.host_reads import reads_are_free
from vlmadapt.plugin import sinkhorn
from vlmadapt.testing.host_waits import (
    FROM_PYTHON,
    INSTEAD,
    MASKED,
    ON_THE_HOST,
    READS,
    SIZED,
    Call,
    host_waits,
    recorded_calls,
)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: float(x[0]), READS),
        (lambda x: bool(x[0] > 0), READS),
        (lambda x: x.tolist(), READS),
        (lambda x: x.cpu(), READS),
        (lambda x: torch.equal(x, x), READS),
        (lambda x: x[x > 0], MASKED),
        (lambda x: x.masked_fill_(x > 0, 1.0)[[0, 1]], FROM_PYTHON),
        (lambda x: torch.tensor([1.0], device=x.device), FROM_PYTHON),
        (lambda x: x.nonzero(), SIZED),
        (lambda x: x.masked_select(x > 0), SIZED),
        (lambda x: torch.where(x > 0), SIZED),
        (lambda x: torch.randperm(3), ON_THE_HOST),
        (lambda x: torch.zeros(3), ON_THE_HOST),
    ],
)
def test_what_would_wait_is_found_with_its_line(call: Callable[[Tensor], object], what: str) -> None:
    x = torch.randn(3)
    found = host_waits(lambda: call(x))
    assert {wait.what for wait in found} == {what}
    line = call.__code__.co_firstlineno  # type: ignore[attr-defined]
    assert {(Path(wait.place.file).name, wait.place.line) for wait in found} == {("test_host_waits.py", line)}


def test_what_would_not_wait_is_not_found() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    index = torch.tensor([2, 0])

    def step() -> None:
        y = x[index][:, :2] + torch.zeros(2, device=x.device) + x.new_ones(2)
        torch.autograd.grad(torch.where(y > 0, y, 0.5 * y).sum(), x)

    assert host_waits(step) == []


def test_a_wait_in_a_backward_pass_is_found() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * float(gradient.sum())

    x = torch.randn(3, requires_grad=True)
    found = host_waits(lambda: torch.autograd.grad(Reads.apply(x).sum(), x))
    assert [(wait.what, wait.place.function) for wait in found] == [(READS, "backward")]


def test_each_kind_of_wait_has_advice() -> None:
    assert INSTEAD.keys() == {READS, SIZED, MASKED, FROM_PYTHON, ON_THE_HOST}


def test_what_is_read_on_the_cpu_alone_is_not_a_wait() -> None:
    cosines = torch.rand(2, 3, 4)
    assert reads_are_free(cosines.device)
    assert host_waits(lambda: sinkhorn(cosines)) == []
    assert reads_are_free(cosines.device)


def test_calls_are_equal_for_other_values_and_differ_by_shape_or_number() -> None:
    def call(x: Tensor, factor: float = 2.0) -> Call:
        with recorded_calls() as found:
            _ = x * factor
        (only,) = found
        return only

    first = call(torch.zeros(3))
    assert first.same(call(torch.ones(3)))
    assert not first.same(call(torch.zeros(2)))
    assert not first.same(call(torch.zeros(3), 3.0))

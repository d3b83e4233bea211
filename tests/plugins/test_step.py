"""Work of each method's training step: no value the host waits for, and no more operators than recorded.

`python -m tests.plugins.test_step` prints the table of work, for when it has changed on purpose.
"""

from __future__ import annotations

import pytest
import torch

from tests.step import class_names, counted_tokens, host_waits, operators, training_step
from vlmadapt import registry
from vlmadapt.core.method import trainable_count
from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.data import CLASSES

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]

WAITS = {
    "plot": {"transport.py _scale: reads a value"},  # on the CPU alone
    "plot++": {"transport.py _scale: reads a value"},
    "proda": {"proda.py losses: reads a value"},  # which of its templates are written differs by step
}
"""What is known to read a value in a step, and why it may."""

WORK = {
    "mmrl": (1421, 520, 1235),
    "coop": (2520, 240, 1102),
    "maple": (2376, 336, 1504),
    "promptsrc": (2376, 672, 1663),
}
"""Tokens that a step puts through the blocks of the text and of the image tower, and operators that compute."""

CLASS_COUNT = 40


def work(name: str) -> tuple[int, int, int]:
    """The work of a step that is not the first."""
    subject = MethodUnderTest(name)
    step = training_step(subject, class_names(CLASS_COUNT))
    with counted_tokens(subject.backbone) as tokens:
        step()
    return tokens["text"], tokens["image"], operators(step)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_reads_no_value_and_makes_no_tensor_of_python_data(name: str) -> None:
    subject = MethodUnderTest(name)
    if not trainable_count(subject.build()):
        pytest.skip("nothing is trained step by step")
    assert host_waits(training_step(subject, tuple(CLASSES))) == WAITS.get(name, set())


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: float(x[0]), "reads a value"),
        (lambda x: bool(x[0] > 0), "reads a value"),
        (lambda x: x.tolist(), "reads a value"),
        (lambda x: x.cpu(), "reads a value"),
        (lambda x: torch.equal(x, x), "reads a value"),
        (lambda x: x[x > 0], "indexes by a mask"),
        (lambda x: x.masked_fill_(x > 0, 1.0)[[0, 1]], "makes a tensor of Python data"),
        (lambda x: torch.tensor([1.0], device=x.device), "makes a tensor of Python data"),
        (lambda x: x.nonzero(), "has a shape that depends on values"),
        (lambda x: x.masked_select(x > 0), "has a shape that depends on values"),
        (lambda x: torch.where(x > 0), "has a shape that depends on values"),
        (lambda x: torch.randperm(3), "makes a tensor on the host"),
        (lambda x: torch.zeros(3), "makes a tensor on the host"),
    ],
)
def test_what_would_wait_is_found(call, what: str) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(3)
    assert host_waits(lambda: call(x)) == {what}


def test_what_would_not_wait_is_not_found() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    index = torch.tensor([2, 0])

    def step() -> None:
        y = x[index][:, :2] + torch.zeros(2, device=x.device) + x.new_ones(2)
        torch.autograd.grad(torch.where(y > 0, y, 0.5 * y).sum(), x)

    assert host_waits(step) == set()


@pytest.mark.parametrize("name", WORK)
def test_a_step_does_no_more_work_than_recorded(name: str) -> None:
    """Exact and the same on every machine; less work is welcome, and is then to be recorded here."""
    found = dict(zip(("text tokens", "image tokens", "operators"), work(name), strict=True))
    recorded = dict(zip(found, WORK[name], strict=True))
    assert all(found[what] <= recorded[what] for what in found), f"{found} instead of {recorded}"


if __name__ == "__main__":
    for method in WORK:
        print(f'    "{method}": {work(method)},')

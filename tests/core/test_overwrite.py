"""Overwriting tokens gives what taking sequences apart and joining them gives, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlmadapt.core.overwrite import overwrite


def joined(x: Tensor, new: Tensor, start: int, blend: float) -> Tensor:
    stop = start + new.shape[-2]
    here = blend * new + (1 - blend) * x[..., start:stop, :]
    return torch.cat([x[..., :start, :], here, x[..., stop:, :]], dim=-2)


@pytest.mark.parametrize("blend", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("start", [0, 1, 4])
def test_tokens_and_gradients(start: int, blend: float) -> None:
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    new = torch.randn(1, 1, 3, 5, dtype=torch.float64, requires_grad=True)
    found, expected = (
        overwrite(x, new.expand(2, 3, -1, -1), start, blend),
        joined(x, new.expand(2, 3, -1, -1), start, blend),
    )
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), (x, new)),
        torch.autograd.grad((expected * weight).sum(), (x, new)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("blend", [1.0, 0.9])
def test_gradients_can_be_differentiated_again(blend: float) -> None:
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    new = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, new: overwrite(x, new, 1, blend) ** 2, (x, new))


def test_what_is_overwritten_stays_as_it_was() -> None:
    x, new = torch.randn(1, 5, 2), torch.zeros(1, 2, 2)
    before = x.clone()
    with torch.no_grad():
        overwrite(x.expand(3, -1, -1), new.expand(3, -1, -1), 2, 0.5)
    assert torch.equal(x, before)


def test_only_what_needs_gradients_gets_some() -> None:
    frozen, new = torch.randn(1, 5, 2), torch.randn(1, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(overwrite(frozen, new, 2).sum(), new)
    assert torch.equal(gradient, torch.ones_like(new))

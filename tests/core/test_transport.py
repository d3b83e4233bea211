"""Optimal transport between small sets."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.transport import _scale
from vlmadapt.plugin import sinkhorn

COSINES = torch.rand(5, 3, 7, 4, generator=torch.Generator().manual_seed(0)) * 0.6


def test_a_converged_plan_has_uniform_margins() -> None:
    plan = sinkhorn(COSINES, rounds=500, tolerance=1e-7)
    torch.testing.assert_close(plan.sum(-1), torch.full((5, 3, 7), 1 / 7))
    torch.testing.assert_close(plan.sum(-2), torch.full((5, 3, 4), 1 / 4))


def test_a_sharp_plan_matches_partners() -> None:
    """Where each feature has one partner and the entropy counts little, all goes there."""
    plan = sinkhorn(torch.eye(4), eps=0.02)
    torch.testing.assert_close(plan, torch.eye(4) / 4)


def test_much_entropy_makes_the_plan_uniform() -> None:
    torch.testing.assert_close(sinkhorn(COSINES, eps=1e4), torch.full_like(COSINES, 1 / 28), rtol=1e-3, atol=0.0)


def test_one_round_is_the_formula() -> None:
    kernel = torch.exp((COSINES - 1) / 0.1)
    rows = 1 / 7 / kernel.sum(-1)
    columns = 1 / 4 / (kernel * rows[..., None]).sum(-2)
    torch.testing.assert_close(sinkhorn(COSINES, rounds=1), rows[..., None] * kernel * columns[..., None, :])


def test_pairs_stop_together() -> None:
    """The mean over all pairs decides, so that a pair among easy ones gets fewer rounds than alone."""
    easy, hard = torch.zeros(50, 4, 4), COSINES[:1, 0, :4] * 3
    alone, among = sinkhorn(hard, tolerance=0.01)[0], sinkhorn(torch.cat([easy, hard]), tolerance=0.01)[-1]
    assert (alone - among).abs().max() > 1e-4


def test_no_gradient_passes_through() -> None:
    assert not sinkhorn(COSINES.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_stopping_early_saves_rounds_and_changes_nothing(rounds: int) -> None:
    kernel = torch.exp((COSINES - 1) / 0.1)
    early, late = (_scale(kernel, rounds, 0.01, stop_early=stop) for stop in (True, False))
    assert torch.equal(early[0], late[0])
    assert torch.equal(early[1], late[1])


def test_no_value_is_read_on_another_device() -> None:
    assert sinkhorn(COSINES.to("meta")).shape == COSINES.shape

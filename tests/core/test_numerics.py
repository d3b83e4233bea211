"""Arithmetic that is done in at least float32."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.numerics import l2_normalize


def test_features_get_length_one() -> None:
    found = l2_normalize(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_they_are_normalised_in_float32_or_float64(given: torch.dtype) -> None:
    found = l2_normalize(torch.full((2, 3, 4), 100.0, dtype=given))  # its square is no float16
    assert found.dtype == (torch.float64 if given == torch.float64 else torch.float32)
    torch.testing.assert_close(found, torch.full_like(found, 0.5))


def test_autocast_changes_nothing() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert l2_normalize(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_nothing_stays_nothing() -> None:
    assert l2_normalize(torch.zeros(1, 4)).tolist() == [[0.0] * 4]

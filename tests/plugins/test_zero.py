"""ZERO: how a tie is decided where no further view decides it."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.method import Task
from vlmadapt.testing import tiny_clip
from vlmadapt_streams.zero import Zero, ZeroConfig

TIED = torch.tensor([[True, False, True, False, False]])


def winner(rest: torch.Tensor, published: bool) -> int:
    method = Zero(ZeroConfig(published=published), tiny_clip(), Task(tuple("abcde"), ()))
    return int(method.winner(TIED, rest[None]))


@pytest.mark.parametrize(("published", "expected"), [(True, 3), (False, 2)])
def test_the_published_code_excludes_classes_by_inverted_indices(published: bool, expected: int) -> None:
    rest = torch.tensor([[0.0, 2.0, 1.0, 3.0, 4.0], [0.0, 9.0, 0.0, 0.0, 0.0]])  # published: classes 4 and 2 are out
    assert winner(rest, published) == expected


@pytest.mark.parametrize("published", [True, False])
def test_a_further_view_decides_a_tie(published: bool) -> None:
    rest = torch.tensor([[0.0, 2.0, 1.0, 3.0, 4.0], [5.0, 1.0, 6.0, 0.0, 0.0]])
    assert winner(rest, published) == 2

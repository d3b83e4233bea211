"""Check of determinism."""

from __future__ import annotations

import torch

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def deterministic(tested: MethodUnderTest) -> None:
    """Two fits with the same seed give identical parameters."""
    first, second = tested.trained.method.state_dict(), tested.fit().method.state_dict()
    if first.keys() != second.keys():
        raise CheckFailed(f"its state has other names the second time: {sorted(first.keys() ^ second.keys())}.")
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise CheckFailed(f"'{name}' differs between two fits with the same seed.")

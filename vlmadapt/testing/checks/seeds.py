"""The same seed gives the same method."""

from __future__ import annotations

import torch

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import Subject


def deterministic(subject: Subject) -> None:
    """Fitted twice with the same seed, it is the same to the last bit."""
    first, second = subject.trained.method.state_dict(), subject.fit().method.state_dict()
    if first.keys() != second.keys():
        raise CheckFailed(f"its state has other names the second time: {sorted(first.keys() ^ second.keys())}.")
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise CheckFailed(f"'{name}' differs between two fits with the same seed.")

"""What two processes train is compared with what one process trains."""

from __future__ import annotations

import pytest
from torch import Tensor

from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.checks.processes import _as_one_process
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.training import SHARED_BATCH


def trained(tested: MethodUnderTest, batch_size: int) -> dict[str, Tensor]:
    return tested.fit(batch_size=batch_size, dropout=False).method.state_dict()


def test_the_same_steps_are_wanted() -> None:
    tested = MethodUnderTest("clip-lora", {"position": "top1"})
    _as_one_process(tested, trained(tested, SHARED_BATCH))
    with pytest.raises(CheckFailed, match="away from the parameters of one"):
        _as_one_process(tested, trained(tested, SHARED_BATCH - 1))

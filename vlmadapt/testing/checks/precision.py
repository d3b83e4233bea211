"""Check of mixed precision."""

from __future__ import annotations

import torch

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def bf16(tested: MethodUnderTest) -> None:
    """It trains and scores images under bfloat16 autocast on the CPU, and its parameters stay float32."""
    classifier = tested.fit(precision="bf16", epochs=1)
    for name, parameter in classifier.method.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.isfinite().all():
            raise CheckFailed(f"trained under bfloat16, the parameter '{name}' is {parameter.dtype} or not finite.")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = tested.scores(classifier)
    scores_of(4, len(CLASSES), scores)

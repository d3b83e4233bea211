"""Mixed precision."""

from __future__ import annotations

import torch

from vlmadapt.roles import SEEN
from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import Subject


def bf16(subject: Subject) -> None:
    """It trains and answers under bfloat16 autocast, on the CPU too, and its parameters stay float32."""
    classifier = subject.fit(precision="bf16", epochs=1)
    for name, parameter in classifier.method.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.isfinite().all():
            raise CheckFailed(f"trained under bfloat16, the parameter '{name}' is {parameter.dtype} or not finite.")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = classifier.scores(subject.shots(seed=2).images[:4], CLASSES, SEEN)
    scores_of(4, len(CLASSES), scores)

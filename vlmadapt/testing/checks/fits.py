"""The most basic check: a method can be built, trained and evaluated."""

from __future__ import annotations

import torch

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def fits(tested: MethodUnderTest) -> None:
    """It is built, trained for a few steps with finite losses in float32, and scores images."""
    classifier = tested.trained
    for number, terms in enumerate(tested.trace.terms):
        for name, value in terms.items():
            if not torch.isfinite(torch.tensor(value)):
                raise CheckFailed(
                    f"the loss term '{name}' of step {number + 1} is {value}.",
                    "look for log(0), 0/0 or an overflow, or a learning rate that is too large.",
                )
    for name, tensor in classifier.method.named_parameters():
        if tensor.dtype != torch.float32:
            raise CheckFailed(f"the parameter '{name}' is {tensor.dtype}.", "create parameters in float32.")
        if not tensor.isfinite().all():
            raise CheckFailed(f"the parameter '{name}' is not finite after a few steps.")
    scores_of(4, len(CLASSES), tested.scores(classifier))

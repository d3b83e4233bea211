"""The least of all: it can be built, trained and asked."""

from __future__ import annotations

import torch

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import Subject


def fits(subject: Subject) -> None:
    """It is built, trained for a few steps with finite losses in float32, and answers."""
    classifier = subject.trained
    for number, terms in enumerate(subject.observed.terms):
        for name, value in terms.items():
            if not torch.isfinite(torch.tensor(value)):
                raise CheckFailed(
                    f"the loss term '{name}' of step {number + 1} is {value}.",
                    "look for log(0), 0/0 or an overflow, and for a learning rate that is too large.",
                )
    for name, tensor in classifier.method.named_parameters():
        if tensor.dtype != torch.float32:
            raise CheckFailed(f"the parameter '{name}' is {tensor.dtype}.", "create parameters in float32.")
        if not tensor.isfinite().all():
            raise CheckFailed(f"the parameter '{name}' is not finite behind a few steps.")
    scores_of(4, len(CLASSES), subject.scores(classifier))

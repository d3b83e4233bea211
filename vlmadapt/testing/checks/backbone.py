"""The backbone belongs to everybody."""

from __future__ import annotations

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import Subject


def backbone_untouched(subject: Subject) -> None:
    """The backbone is left as it was: weights, modes, modules, gradients."""
    _ = subject.trained
    for what in subject.observed.backbone_changed:
        raise CheckFailed(f"fitting changes the backbone: {what}.")

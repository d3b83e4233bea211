"""Check that the frozen backbone stays unchanged."""

from __future__ import annotations

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def backbone_untouched(tested: MethodUnderTest) -> None:
    """Fitting leaves the backbone unchanged: weights, modes, modules, gradients."""
    _ = tested.trained
    for what in tested.trace.backbone_changed:
        raise CheckFailed(f"fitting changes the backbone: {what}.")

"""Check that exactly the trainable parameters are trained."""

from __future__ import annotations

import math

from vlmadapt.core.method import trainable_count
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def gradients(tested: MethodUnderTest) -> None:
    """Finite gradients reach every trainable parameter, and only they change."""
    classifier = tested.trained
    if not trainable_count(classifier.method) or not tested.recipe.epochs:
        raise NotApplicable("it is not trained step by step")
    seen = tested.trace.gradients
    for name, parameter in classifier.method.named_parameters():
        if not parameter.requires_grad:
            continue
        if not seen.get(name):
            raise CheckFailed(f"no gradient reaches the parameter '{name}' in any step.")
        if not all(map(math.isfinite, seen[name])):
            raise CheckFailed(f"the gradient of '{name}' is not finite.", "look for sqrt(0), log(0) or 0/0 in a loss.")
        if not any(seen[name]):
            raise CheckFailed(f"the gradient of '{name}' is zero in every step.")
    frozen = {id(p) for p in tested.backbone.parameters()}
    for name, parameter in classifier.method.named_parameters():
        if id(parameter) in frozen:
            raise CheckFailed(
                f"the parameter '{name}' is the backbone's.",
                "keep the tower (`self.tower = backbone.image`), not its modules; copy what you train.",
            )

"""Check that exactly the trainable parameters are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from vlmadapt.core.method import Method, trainable_count
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def gradients(tested: MethodUnderTest) -> None:
    """Finite gradients reach every trainable parameter, and only they change; none is hidden from the optimiser."""
    classifier = tested.trained
    _all_registered(classifier.method)
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


def _all_registered(method: Method) -> None:
    """Refuse parameters in lists, tuples and dictionaries, which PyTorch does not find: they would not be trained.

    Raises:
        CheckFailed: the message names the attribute.
    """
    known = {id(parameter) for parameter in method.parameters()}
    for module in method.modules():
        for name, value in vars(module).items():
            if name.startswith("_") and name in vars(nn.Module()):
                continue  # where PyTorch keeps what is registered
            if any(p.requires_grad and id(p) not in known for p in _parameters(value)):
                raise CheckFailed(
                    f"parameters in '{name}' of {type(module).__name__} are not registered, so that they are neither "
                    "trained nor saved.",
                    "keep them in `nn.ParameterList`, `nn.ParameterDict`, `nn.ModuleList` or `nn.ModuleDict`.",
                )


def _parameters(value: Any) -> Iterator[nn.Parameter]:
    """Parameters in a value, in containers and in modules inside."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, dict):
        yield from _parameters(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parameters(item)

"""Check that scores follow every change of the method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Method
from vlmadapt.testing.checks.compare import same
from vlmadapt.testing.under_test import MethodUnderTest


def keeps_up(tested: MethodUnderTest) -> None:
    """After its parameters, buffers or attributes change, scores are those of a new method with the same values."""
    method = _new(tested, tested.trained.method)
    classifier = tested.classifier(method)
    tested.scores(classifier)  # from here on text features are kept
    _change_tensors(method)
    _compare(tested, "all parameters and buffers through `.data`", _new(tested, method), classifier)
    new = _new(tested, method)
    _change_numbers(new, method)
    _compare(tested, "all plain numbers of the method", new, classifier)


def _compare(tested: MethodUnderTest, changed: str, new: Method, classifier: Classifier) -> None:
    expected = tested.scores(tested.classifier(new, "reference"))
    same(f"scores after a change of {changed}", expected, tested.scores(classifier))


def _new(tested: MethodUnderTest, method: Method) -> Method:
    """A new method with the state of another."""
    new = tested.build()
    new.load_state_dict(method.state_dict())
    return new


def _change_tensors(method: Method) -> None:
    generator = torch.Generator().manual_seed(0)
    for tensor in (*method.parameters(), *method.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(0.1 * torch.randn(tensor.shape, generator=generator))


def _change_numbers(new: Method, method: Method) -> None:
    """Scale the plain floats of a new method and its options, and give them to a used one.

    Zero, which often means off, stays zero.
    """
    for attributes, used in zip(_attributes(new), _attributes(method), strict=True):
        for name, value in attributes.items():
            if isinstance(value, float):
                attributes[name] = used[name] = 0.9 * value


def _attributes(method: Method) -> Iterator[dict[str, Any]]:
    yield from map(vars, method.modules())
    yield getattr(method.config, "__dict__", {})

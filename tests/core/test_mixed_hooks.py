from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmadapt.core.hooks import Injection
from vlmadapt.core.mixed_hooks import mixed_hooks
from vlmadapt.errors import PluginError
from vlmadapt.plugin import CONTEXT, EMBEDDING, IMAGE, TEXT, Hook, head, inject, per_class, prompt

ONE, OTHER = torch.full((2, 4), 1.0), torch.full((2, 4), 5.0)


def hooks(values: Tensor | Callable[..., Tensor]) -> list[Hook]:
    return [prompt("[2] {}."), inject(TEXT, {EMBEDDING: per_class(values)}, at=CONTEXT)]


def mixed(first: Any, second: Any, share: float) -> Any:
    kept, injection = mixed_hooks(hooks(first), hooks(second), share)
    assert kept == prompt("[2] {}.") and isinstance(injection, Injection)
    return injection.layers[EMBEDDING].values


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_tokens_are_the_weighted_mean(share: float, expected: float) -> None:
    assert torch.equal(mixed(ONE, OTHER, share), torch.full((2, 4), expected))


def test_so_are_tokens_that_are_functions_of_the_pass() -> None:
    values = mixed(lambda fwd: fwd * ONE, lambda fwd: fwd * OTHER, 0.25)
    assert torch.equal(values(10.0), torch.full((2, 4), 20.0))


def test_a_trained_projection_is_refused() -> None:
    trained = [head(IMAGE, "trained", project=torch.ones(4, 4))]
    with pytest.raises(PluginError, match="only injected tokens can be mixed"):
        list(mixed_hooks(trained, trained, 0.5))

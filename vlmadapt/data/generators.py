"""Redirect torch's random functions to a given generator, for code that draws from the global one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

RANDOM = frozenset((
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.normal,
    torch.bernoulli,
    torch.multinomial,
    torch.Tensor.bernoulli,
    torch.Tensor.bernoulli_,
    torch.Tensor.cauchy_,
    torch.Tensor.exponential_,
    torch.Tensor.geometric_,
    torch.Tensor.log_normal_,
    torch.Tensor.multinomial,
    torch.Tensor.normal_,
    torch.Tensor.random_,
    torch.Tensor.uniform_,
))  # fmt: skip
"""Functions of torch that take a generator."""


class DrawFrom(TorchFunctionMode):
    """Context in which torch's random functions draw from `generator`; in this thread only.

    torchvision's transforms take no generator. Seeding the global one for them would change what other threads of the
    process draw; the numbers are the same as from the global generator with the same seed.
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in RANDOM and given.get("generator") is None:
            given["generator"] = self._generator
        return func(*args, **given)

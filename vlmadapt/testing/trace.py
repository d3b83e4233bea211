"""Trace of a fit: losses, gradients and side effects (network, output, global state, backbone weights)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import LossTerm, Method
from vlmadapt.testing.training import Watch


@dataclass
class FitTrace:
    """Record of fitting a method.

    Attributes:
        classifier: the fitted classifier; None if fitting failed.
        error: exception that ended fitting; None if it succeeded.
        printed: text written to standard output and standard error.
        connections: network addresses that were requested.
        changed: parts of the global state that differ after fitting.
        backbone_changed: parts of the backbone that differ after fitting.
        terms: values of the loss terms at each step.
        gradients: largest absolute gradient of each parameter at each optimiser step that had one.
    """

    classifier: Classifier | None = None
    error: Exception | None = None
    printed: str = ""
    connections: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    backbone_changed: list[str] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    gradients: dict[str, list[float]] = field(default_factory=dict)

    def step(self, method: Method, terms: Sequence[LossTerm], updates: list[list[Tensor | None]]) -> None:
        """Record a training step."""
        self.terms.append({name: float(value.detach()) for name, _, value in terms})
        names = [name for name, parameter in method.named_parameters() if parameter.requires_grad]
        for gradients in updates:
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    self.gradients.setdefault(name, []).append(float(gradient.abs().max()))


def trace_fit(backbone: Backbone, fit: Callable[[Watch], Classifier]) -> FitTrace:
    """Fit and record."""
    trace = FitTrace()
    frozen, state = _frozen(backbone), _global_state()
    output = io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        warnings.catch_warnings(),
        _no_network(trace.connections),
        _no_seeding(trace.changed),
    ):
        warnings.simplefilter("ignore")
        try:
            trace.classifier = fit(trace.step)
        except Exception as error:
            trace.error = error
    trace.printed = output.getvalue()
    trace.changed += [name for name, value in _global_state().items() if value != state[name]]
    trace.backbone_changed = [name for name, value in _frozen(backbone).items() if value != frozen[name]]
    return trace


def _frozen(backbone: Backbone) -> dict[str, Any]:
    modules = list(backbone.modules())
    return {
        "its weights (the hash differs)": backbone.fingerprint(),
        "which of its weights require gradients": [p.requires_grad for p in backbone.parameters()],
        "gradients that were left in it": [p.grad is not None for p in backbone.parameters()],
        "its training mode": [m.training for m in modules],
        "its modules, or hooks on them": [
            (len(m._modules), len(m._parameters), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules
        ],
    }


def _global_state() -> dict[str, Any]:
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "Python's random state": random.getstate(),
        "numpy's random state": hashlib.sha256(repr(np.random.get_state(legacy=False)).encode()).hexdigest(),
        "the working directory": os.getcwd(),  # noqa: PTH109 - the state itself
        "the environment": dict(os.environ),
        "sys.path": list(sys.path),
    }


@contextlib.contextmanager
def _no_network(requested: list[str]) -> Iterator[None]:
    """Refuse network connections and record their addresses."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        requested.append(" ".join(str(a) for a in args if not isinstance(a, socket.socket)))
        raise OSError("the conformance kit has no network")

    with _patched(socket, getaddrinfo=refuse), _patched(socket.socket, connect=refuse, connect_ex=refuse):
        yield


@contextlib.contextmanager
def _no_seeding(noted: list[str]) -> Iterator[None]:
    """Record whether the method seeds the global generator, which would undo the seed of the run."""
    calls: list[int] = []
    original = torch.manual_seed

    def seed(value: int) -> torch.Generator:
        calls.append(value)
        return original(value)

    with _patched(torch, manual_seed=seed):
        yield
    if len(calls) > 1:  # the first is the kit's own
        noted.append(f"torch's random state (manual_seed({calls[1]}))")


@contextlib.contextmanager
def _patched(target: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)

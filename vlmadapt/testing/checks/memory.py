"""Check that memory does not grow with the number of steps."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.core.method import Method, trainable_count
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest

COMPARED = (4, 6)
"""Steps after which memory is measured; earlier steps may still be filling caches."""


def memory(tested: MethodUnderTest) -> None:
    """Steps accumulate neither computation graphs nor tensors."""
    if not trainable_count(tested.trained.method) or not tested.recipe.epochs:
        raise NotApplicable("it is not trained step by step")
    meter = _Meter()
    gc.freeze()  # objects made before need not be searched
    try:
        with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda saved: saved.tensor):
            tested.fit(epochs=3, watch=meter.step)
    finally:
        gc.unfreeze()
    _compare("tensors of earlier steps' graphs", meter.graphs)
    _compare("numbers in tensors that the method keeps", meter.tensors)


def _compare(what: str, counts: list[int]) -> None:
    if counts[-1] > counts[0]:
        raise CheckFailed(
            f"after step {COMPARED[0]} there are {counts[0]:,} {what}, after step {COMPARED[1]} {counts[-1]:,}."
        )


class _Meter:
    """Counts saved and kept tensors after the steps `COMPARED`."""

    def __init__(self) -> None:
        self.steps = 0
        self.graphs: list[int] = []
        self.tensors: list[int] = []
        self._alive: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor.detach(), self.steps)  # an output with its graph would keep itself alive
        self._alive.add(saved)
        return saved

    def step(self, method: Method, *_: object) -> None:
        if self.steps + 1 in COMPARED:
            gc.collect()
            self.graphs.append(sum(saved.step < self.steps for saved in self._alive))
            self.tensors.append(_held(method))
        self.steps += 1


class _Saved:
    """A tensor saved for a backward pass, and the step it was made in."""

    def __init__(self, tensor: Tensor, step: int):
        self.tensor = tensor
        self.step = step


def _held(method: Method) -> int:
    """Number of elements of all tensors reachable from the method or from its module's globals."""
    module = vars(sys.modules[type(method).__module__])
    stack: list[Any] = [method, *(v for v in module.values() if isinstance(v, list | dict | set))]
    seen: set[int] = set()
    count = 0
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            count += item.numel()
        else:
            stack += _inside(item)
    return count


def _inside(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, list | tuple | set | frozenset):
        return item
    return vars(item).values() if isinstance(item, nn.Module) else ()

"""Text features kept between evaluation batches while the method does not change."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmadapt.core.backbone import ImageTower, TextTower

Features = dict[str, Tensor]


class Unchanging:
    """Base of objects that a method may hold and that never change, such as a frozen teacher."""


_FIXED = (
    *(type, FunctionType, BuiltinFunctionType, Enum, PurePath, torch.dtype, torch.device),
    *(ImageTower, TextTower, Unchanging),
)
"""Objects that do not change (towers are frozen)."""

_MODULE_INTERNALS = frozenset(vars(nn.Module()))


class MethodState:
    """A copy of everything in a method that its scores can depend on.

    These are the values of all parameters and buffers, of tensors in plain attributes, and the other plain attributes,
    compared by value, so that neither `tensor.data` nor in-place operations nor a Python attribute change it unnoticed.
    A method that holds an object that cannot be compared so never equals what it was.
    """

    def __init__(self, method: nn.Module):
        self._tensors: list[Tensor] = []
        values: list[Hashable] = []
        for tensor_or_value in _state(method):
            if isinstance(tensor_or_value, Tensor):
                self._tensors.append(tensor_or_value.detach())
            else:
                values.append(tensor_or_value)
        self.values = tuple(values)

    @property
    def addresses(self) -> tuple[int, ...]:
        """Memory addresses of the tensors."""
        return tuple(tensor.data_ptr() for tensor in self._tensors)

    def copy(self) -> MethodState:
        """Copy the tensors, so that later changes do not affect this state."""
        self._tensors = [tensor.clone() for tensor in self._tensors]
        return self

    def equals(self, other: MethodState) -> bool:
        """Whether both hold the same values."""
        if self.values != other.values or len(self._tensors) != len(other._tensors):
            return False
        pairs = zip(self._tensors, other._tensors, strict=True)
        return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


MOST_KEPT = 4
"""Class lists whose text features are kept: a method may score sentences next to class names."""


class KeptText:
    """The text features of the last class lists, with the state of the method that gave them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Features] = {}
        self._state: MethodState | None = None
        self._trusted = False

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Take the method as unchanged from now on: to compare it, the host waits for the device.

        Features that were kept before are dropped.
        """
        self.trust()
        try:
            yield
        finally:
            self._trusted = False

    def trust(self) -> None:
        """Take the method as unchanged for good."""
        self.clear()
        self._trusted = True

    def get(self, key: Hashable, method: nn.Module) -> Features | None:
        """The kept features of `key` if the method is what it was; if it is not, everything is dropped."""
        if self._state is None or not (self._trusted or self._state.equals(MethodState(method))):
            self.clear()
        return self._kept.get(key)

    def keep(self, key: Hashable, method: nn.Module, features: Features) -> None:
        """Keep features until the method changes, or others take their place."""
        if self._state is None:
            self._state = MethodState(method).copy()
        if len(self._kept) >= MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = features

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self._state = None


def _state(method: nn.Module) -> Iterator[Any]:
    """Tensors and hashable values, in a fixed order."""
    for name, module in method.named_modules():
        yield name, type(module), module.training
        for key, parameter in module._parameters.items():
            yield key
            yield parameter
        for key, buffer in module._buffers.items():
            yield key
            yield buffer
        for key, value in vars(module).items():
            if key not in _MODULE_INTERNALS:
                yield key
                yield from _leaves(value)


def _leaves(value: Any) -> Iterator[Any]:
    """A plain attribute as tensors and hashable values; immutable objects by their identity."""
    if isinstance(value, Tensor | int | float | complex | str | bytes | bool | None):
        yield value
    elif isinstance(value, np.ndarray):
        yield value.shape, value.dtype.str, value.tobytes()
    elif isinstance(value, torch.Generator):
        yield value.get_state()
    elif isinstance(value, nn.Module):
        yield from _state(value)
    elif isinstance(value, Mapping):
        yield type(value)
        for key, item in value.items():
            yield repr(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        yield type(value), len(value)
        for item in value:
            yield from _leaves(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, _FIXED):
        yield _Same(value)
    else:
        yield object()  # equal to nothing


@dataclass(frozen=True, eq=False)
class _Same:
    """Equal only to the same object; holds a reference, so that no other object can get its address."""

    held: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)

"""Text features kept between evaluation batches, for as long as the method stays exactly as it was."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Features = dict[str, Tensor]

_MODULE_INTERNALS = frozenset(vars(nn.Module()))


class MethodState:
    """A copy of everything in a method that its answers can depend on.

    These are the values of all parameters and buffers, of tensors in plain attributes, and the other plain attributes:
    compared by value, so that no way of changing a method (`tensor.data`, in-place operations, a Python attribute) goes
    unnoticed.
    """

    def __init__(self, method: nn.Module):
        self._tensors: list[Tensor] = []
        self._values: list[Hashable] = []
        for tensor_or_value in _state(method):
            if isinstance(tensor_or_value, Tensor):
                self._tensors.append(tensor_or_value.detach())
            else:
                self._values.append(tensor_or_value)

    def copy(self) -> MethodState:
        """The state with tensors of its own, which do not follow later changes."""
        self._tensors = [tensor.clone() for tensor in self._tensors]
        return self

    def equals(self, other: MethodState) -> bool:
        """Whether both hold the same values."""
        if self._values != other._values or len(self._tensors) != len(other._tensors):
            return False
        pairs = zip(self._tensors, other._tensors, strict=True)
        return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


class KeptText:
    """The text features of the last class list, with the state of the method that gave them."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, MethodState, Features] | None = None

    def get(self, key: Hashable, method: nn.Module) -> Features | None:
        """The kept features if `key` and the method are what they were; otherwise drops them and gives None."""
        if self._kept is not None and self._kept[0] == key and self._kept[1].equals(MethodState(method)):
            return self._kept[2]
        self.clear()
        return None

    def keep(self, key: Hashable, method: nn.Module, features: Features) -> None:
        """Keep features until `key` or the method changes."""
        self._kept = (key, MethodState(method).copy(), features)

    def clear(self) -> None:
        """Drop everything."""
        self._kept = None


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
    """A plain attribute as tensors and hashable values; of other objects, which one it is."""
    if isinstance(value, Tensor | int | float | complex | str | bytes | bool | None):
        yield value
    elif isinstance(value, Mapping):
        yield "mapping"
        for key, item in value.items():
            yield repr(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        yield type(value).__name__
        for item in value:
            yield from _leaves(item)
    elif hasattr(type(value), "__dataclass_fields__"):
        yield type(value).__name__
        yield from _leaves(vars(value))
    else:
        yield id(value)

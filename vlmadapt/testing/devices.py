"""Tensors that would lie on different devices with a GPU, found on the CPU where they meet.

Every tensor is followed. On the device lie those that a caller puts there, that are made or moved there with a device,
and that are computed from others there; those that Python makes without a device lie on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vlmadapt.core.host_reads import like_a_gpu
from vlmadapt.testing.host_waits import FACTORIES, INDEXING
from vlmadapt.testing.source_place import Place, caller

MAKES_TENSORS = {*FACTORIES, "empty", "as_tensor", "asarray"}
COPIES = {"aten::copy_", "aten::_to_copy", "aten::set_"}
"""Operators whose operands may lie on different devices; so may a single number, a scalar tensor."""
TO_NUMPY = {"numpy", "__array__"}


@dataclass(frozen=True)
class Meeting:
    """A call that a GPU refuses.

    Attributes:
        operator: what was called.
        place: where.
    """

    operator: str
    place: Place

    def __str__(self) -> str:
        return f"{self.operator} at {self.place.short}"


@contextmanager
def as_on_a_gpu(tensors: Iterable[Tensor]) -> Iterator[list[Meeting]]:
    """Follow tensors as if these lay on a GPU; calls that it would refuse are listed, each place once."""
    places = _Places()
    for tensor in tensors:
        places.put(tensor, True)
    with like_a_gpu(), _Operators(places), _Calls(places):
        yield places.meetings


class _Places:
    """On which device tensors lie, by the memory that they share.

    Attributes:
        meetings: calls that a GPU would refuse.
        made: where a tensor lies that the current call makes of no other: True on the device, False on the host, None
            outside calls from Python, as in a backward pass, where torch makes it where it belongs.
    """

    def __init__(self) -> None:
        self.meetings: list[Meeting] = []
        self.made: bool | None = None
        # A weak reference keeps the key from being used again, not the memory.
        self._known: dict[int, tuple[StorageWeakRef, bool]] = {}

    def put(self, tensor: Tensor, on_device: bool) -> None:
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = StorageWeakRef(storage), on_device

    def on_device(self, tensor: Tensor) -> bool | None:
        """Whether a tensor lies on the device; None for one that was there before and nobody has put anywhere."""
        known = self._known.get(tensor.untyped_storage()._cdata)
        return None if known is None else known[1]

    def meet(self, operator: str) -> None:
        meeting = Meeting(operator, caller(__file__))
        if meeting not in self.meetings:
            self.meetings.append(meeting)


class _Operators(TorchDispatchMode):
    """Compares the places of each operator's operands, and passes them on to its results."""

    def __init__(self, places: _Places):
        super().__init__()
        self._places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        if self._refused(func.name(), args, given):
            self._places.meet(func.name())
        results = func(*args, **(kwargs or {}))
        on_device = self._of_results(given)
        if on_device is not None:
            for result in _tensors((results,)):
                if self._places.on_device(result) is None:
                    self._places.put(result, on_device)
        return results

    def _refused(self, name: str, args: Any, given: list[Tensor]) -> bool:
        if name.partition(".")[0] in COPIES:
            return False
        if name in INDEXING:  # which takes indices of the host, and copies them
            given = [args[0], *args[2:3], *(index for index in args[1] if self._on_device(index))]
        return {True, False} <= {self._places.on_device(tensor) for tensor in given if tensor.ndim}

    def _on_device(self, index: Tensor | None) -> bool:
        return index is not None and self._places.on_device(index) is True

    def _of_results(self, given: list[Tensor]) -> bool | None:
        found = {self._places.on_device(tensor) for tensor in given}
        if found <= {None}:
            made = self._places.made
            return made if made is not None or given else True
        return True in found


class _Calls(TorchFunctionMode):
    """Sees the device that Python gives or leaves out, which operators on the CPU no longer tell."""

    def __init__(self, places: _Places):
        super().__init__()
        self._places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = getattr(func, "__name__", ""), kwargs or {}
        if name in TO_NUMPY and self._places.on_device(args[0]):
            self._places.meet(f"Tensor.{name}")
        target = _target(name, args, given)
        before = self._places.made
        self._places.made = self._makes(name, target, args)
        try:
            result = func(*args, **given)
        finally:
            self._places.made = before
        return result if target is None or not isinstance(result, Tensor) else self._moved(result, target)

    def _makes(self, name: str, target: bool | None, args: Any) -> bool | None:
        if target is not None or name in MAKES_TENSORS:
            return target is True
        found = {self._places.on_device(tensor) for tensor in _tensors(args)} - {None}
        return True in found if found else None

    def _moved(self, result: Tensor, target: bool) -> Tensor:
        """The result of a call that says where it lies; a copy if it is a tensor that lies elsewhere."""
        if self._places.on_device(result) == (not target):
            result = result.clone()
        self._places.put(result, target)
        return result


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among an operator's operands or results, also in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _target(name: str, args: Any, kwargs: Any) -> bool | None:
    """Where a call puts its result: True for the device, False for the host, None if it does not say."""
    named = [kwargs.get("device"), *(args[1:2] if name == "to" else ())]
    devices = [device for device in named if isinstance(device, str | torch.device | Tensor)]
    if name == "cpu" or "cpu" in [device for device in devices if isinstance(device, str)]:
        return False
    return True if devices else None

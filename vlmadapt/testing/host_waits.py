"""What a function asks of torch that would make the host wait for a GPU; found on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vlmadapt.core.host_reads import like_a_gpu
from vlmadapt.testing.source_place import Place, caller

READ_BY_THE_HOST = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
SIZED_BY_DATA = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::bincount"}
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
TO_THE_HOST = {"tolist", "item", "cpu", "numpy"}
FACTORIES = {"arange", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "zeros", "tensor"}

READS = "reads a value"
SIZED = "has a shape that depends on values"
MASKED = "indexes by a mask"
FROM_PYTHON = "makes a tensor of Python data"
ON_THE_HOST = "makes a tensor on the host"

INSTEAD = {
    READS: "keep it a tensor: `torch.where(condition, a, b)` instead of `if`, `.detach()` instead of `.item()`",
    SIZED: "keep all elements and give those left out the weight 0",
    MASKED: "write `torch.where(mask, x, 0)`, or `index_select` with indices from a registered buffer",
    FROM_PYTHON: "make it once in `build` and register it as a buffer",
    ON_THE_HOST: "make it on the device of the data (`device=fwd.device`, `x.new_zeros`), or once in `build`",
}
"""What to write instead."""


@dataclass(frozen=True)
class HostWait:
    """One reason for the host to wait.

    Attributes:
        operator: what was called.
        what: key of `INSTEAD`.
        place: where.
    """

    operator: str
    what: str
    place: Place

    def __str__(self) -> str:
        return f"{self.operator} at {self.place.short} {self.what}"


def host_waits(function: Callable[[], object]) -> list[HostWait]:
    """Run a function on the CPU as on a GPU, and list what would make the host wait, each place once."""
    seen: dict[HostWait, None] = {}

    def found(operator: str, what: str) -> None:
        seen.setdefault(HostWait(operator, what, caller(__file__)))

    with like_a_gpu(), _HostCalls(found), _HostReads(found):
        function()
    return list(seen)


Found = Callable[[str, str], None]


class _HostReads(TorchDispatchMode):
    """Finds operators whose result the host has to wait for, and tensors made of Python data."""

    def __init__(self, found: Found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        what = _wait(func.name(), args, kwargs or {})
        if what:
            self.found(func.name(), what)
        return func(*args, **(kwargs or {}))


def _wait(name: str, args: Any, kwargs: Any) -> str | None:
    """What a call of an operator would make the host wait for."""
    plain = name.partition(".")[0]
    if plain in READ_BY_THE_HOST:
        return READS
    if plain in SIZED_BY_DATA or (plain == "aten::repeat_interleave" and "output_size" not in kwargs):
        return SIZED
    if name in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1]):
        return MASKED
    return FROM_PYTHON if plain == "aten::lift_fresh" else None


class _HostCalls(TorchFunctionMode):
    """Finds the same where the CPU hides it: calls that copy to the host, and tensors made there by default."""

    def __init__(self, found: Found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in TO_THE_HOST:
            self.found(f"Tensor.{name}", READS)
        elif name in FACTORIES and getattr(torch, name) is func and (kwargs or {}).get("device") is None:
            self.found(f"torch.{name}", ON_THE_HOST)
        return func(*args, **(kwargs or {}))


# -- operators --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Attributes:
        operator: its name.
        arguments: shapes and dtypes of tensors, and all other arguments as text.
        place: where it was called.
    """

    operator: str
    arguments: str
    place: Place

    def same(self, other: Call) -> bool:
        """Whether both compute the same from other values."""
        return (self.operator, self.arguments) == (other.operator, other.arguments)

    def __str__(self) -> str:
        return f"{self.operator} at {self.place.short}"


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """The operators called while it lasts, as on a GPU."""
    calls: list[Call] = []
    with like_a_gpu(), _Recorder(calls):
        yield calls


class _Recorder(TorchDispatchMode):
    def __init__(self, calls: list[Call]):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.name().startswith("profiler::"):
            arguments = " ".join(_described([*args, *(kwargs or {}).items()]))
            self.calls.append(Call(func.name(), arguments, caller(__file__)))
        return func(*args, **(kwargs or {}))


def _described(arguments: Iterable[Any]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield f"{tuple(argument.shape)} {argument.dtype}"
        elif isinstance(argument, list | tuple):
            yield from _described(argument)
        elif not isinstance(argument, torch.Generator):
            yield repr(argument)

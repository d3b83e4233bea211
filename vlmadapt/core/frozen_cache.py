"""Cache of frozen activations, which depend on the backbone alone, by class list."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from vlmadapt.core.class_texts import ClassTexts
from vlmadapt.core.hooks import Read, Teacher
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.templates import Template

T = TypeVar("T")

MAX_BYTES = 2 * 2**30
"""Default bound in bytes; the least recently used entries are dropped first."""

MAX_ENTRIES = 64
"""Bound on the number of entries: methods that draw other classes at each step would fill the cache with small ones."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """Key of an entry, typed by its value.

    Attributes:
        names: class list.
        device: device of the tensors; after the backbone moves, other entries are used.
        precision: precision of autocast, None where it is off.
    """

    names: tuple[str, ...]
    device: torch.device
    precision: torch.dtype | None


@dataclass(frozen=True)
class WrittenTexts(Entry[ClassTexts]):
    """Token ids of a class list; which of their tokens are left out or shared depends on the optimisations."""

    template: Template
    optimizations: Optimizations


@dataclass(frozen=True)
class FrozenRows(Entry[Sequences]):
    """Token sequences before the first touched block."""

    template: Template
    layer: int
    optimizations: Optimizations


@dataclass(frozen=True)
class ReadTokens(Entry[Mapping[Read | str, Tensor]]):
    """Output tokens of an untouched text tower."""

    template: Template
    reads: tuple[Read | str, ...]


@dataclass(frozen=True)
class ZeroShotText(Entry[Tensor]):
    """Zero-shot text features (classes, joint)."""

    teacher: Teacher


@dataclass(frozen=True)
class TemplateText(Entry[Tensor]):
    """Unnormalised zero-shot text features (templates, classes, joint)."""

    teacher: Teacher


@dataclass(frozen=True)
class EncodedText(Entry[Tensor]):
    """Features (classes, joint) of a text tower without `blocks`."""

    template: Template


class FrozenCache:
    """Least-recently-used cache of frozen activations.

    The weights they come from never change (`Backbone` is frozen), so entries stay valid; code that changes a backbone
    has to call `clear`.

    Args:
        max_bytes: bound on the tensors held; the entry used last is kept even if it alone is larger.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self._held: OrderedDict[Entry[Any], Any] = OrderedDict()

    def get(self, entry: Entry[T], compute: Callable[[], T]) -> T:
        """Value of an entry, computed without gradients if it is missing."""
        if entry not in self._held:
            self._held[entry] = without_graph(compute)
            self._shrink()
        self._held.move_to_end(entry)
        held: T = self._held[entry]
        return held

    def held(self) -> tuple[Any, ...]:
        """All values; a captured step holds them so that their memory is not freed."""
        return tuple(self._held.values())

    def clear(self) -> None:
        """Drop everything."""
        self._held.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return sum(_nbytes(value) for value in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def _shrink(self) -> None:
        while len(self._held) > MAX_ENTRIES or (len(self._held) > 1 and self.nbytes > self.max_bytes):
            self._held.popitem(last=False)


def without_graph(compute: Callable[[], T]) -> T:
    """Compute outside autograd and outside inference mode, so that the result may enter a later graph."""
    with torch.inference_mode(False), torch.no_grad():
        return compute()


def autocast_precision(device: torch.device) -> torch.dtype | None:
    """Precision of the active autocast, None where it is off; frozen activations are valid for one precision only."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _nbytes(value: Sequences | ClassTexts | Mapping[Any, Tensor] | Tensor) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(value)}
    return sum(storages.values())


def _tensors(value: Sequences | ClassTexts | Mapping[Any, Tensor] | Tensor) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, Sequences):
        return value.prefix, value.suffix
    return (value.ids,) if isinstance(value, ClassTexts) else value.values()

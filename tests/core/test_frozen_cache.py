"""The cache of frozen activations: what decides an entry, how much is held, and what is dropped first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmadapt.core import frozen_cache
from vlmadapt.core.class_texts import ClassTexts
from vlmadapt.core.frozen_cache import (
    EncodedText,
    Entry,
    FrozenCache,
    FrozenRows,
    ReadTokens,
    WrittenTexts,
    ZeroShotText,
    autocast_precision,
)
from vlmadapt.core.hooks import Read, teacher
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.templates import Template
from vlmadapt.core.token_map import image_map

CPU, META = torch.device("cpu"), torch.device("meta")
TEMPLATE = Template.parse("a {}.")
NAMES = ("cat", "dog")
KILOBYTE = 256  # elements of float32


def entry(name: str, **changes: Any) -> Entry[Tensor]:
    return replace(EncodedText((name,), CPU, None, TEMPLATE), **changes)


def numbers(n: int = KILOBYTE) -> Callable[[], Tensor]:
    return lambda: torch.zeros(n)


def held(cache: FrozenCache, *names: str) -> list[str]:
    """Which of the entries are held, found without changing the order they are dropped in."""
    return [name for name in names if entry(name) in cache._held]


def test_a_value_is_computed_once() -> None:
    cache, computed = FrozenCache(), []

    def compute() -> Tensor:
        computed.append(1)
        return torch.zeros(2)

    assert cache.get(entry("a"), compute) is cache.get(entry("a"), compute)
    assert len(computed) == 1
    assert cache.get(entry("b"), compute) is not cache.get(entry("a"), compute)
    assert len(computed) == len(cache) == 2


DIFFERENT: list[Entry[Any]] = [
    EncodedText(NAMES, CPU, None, TEMPLATE),
    EncodedText(NAMES[::-1], CPU, None, TEMPLATE),
    EncodedText(NAMES, META, None, TEMPLATE),
    EncodedText(NAMES, CPU, torch.bfloat16, TEMPLATE),
    EncodedText(NAMES, CPU, torch.float16, TEMPLATE),
    EncodedText(NAMES, CPU, None, Template.parse("the {}.")),
    WrittenTexts(NAMES, CPU, None, TEMPLATE, Optimizations()),
    FrozenRows(NAMES, CPU, None, TEMPLATE, 1, Optimizations()),
    FrozenRows(NAMES, CPU, None, TEMPLATE, 2, Optimizations()),
    FrozenRows(NAMES, CPU, None, TEMPLATE, 2, Optimizations(truncate=False)),
    ReadTokens(NAMES, CPU, None, TEMPLATE, (Read.POOLED,)),
    ReadTokens(NAMES, CPU, None, TEMPLATE, (Read.POOLED, Read.ALL)),
    ZeroShotText(NAMES, CPU, None, teacher("a {}.")),
    ZeroShotText(NAMES, CPU, None, teacher("a {}.", normalize_each=False)),
]


def test_entries_that_differ_in_anything_are_different() -> None:
    """Classes in another order, another device, another precision, another kind of result."""
    cache = FrozenCache()
    values = [cache.get(key, numbers(1)) for key in DIFFERENT]
    assert len(cache) == len(DIFFERENT)
    assert all(cache.get(replace(key), numbers(1)) is value for key, value in zip(DIFFERENT, values, strict=True))


def test_no_more_bytes_are_held_than_allowed_and_the_least_recently_used_goes_first() -> None:
    cache = FrozenCache(max_bytes=3 * 1024)
    for name in "abc":
        cache.get(entry(name), numbers())
    assert cache.nbytes == 3 * 1024
    cache.get(entry("a"), numbers())  # used again
    cache.get(entry("d"), numbers())
    assert held(cache, *"abcd") == ["a", "c", "d"]
    cache.get(entry("e"), numbers(2 * KILOBYTE))
    assert held(cache, *"abcde") == ["d", "e"]
    assert cache.nbytes == 3 * 1024


def test_an_entry_larger_than_allowed_is_held_alone() -> None:
    cache = FrozenCache(max_bytes=1024)
    cache.get(entry("a"), numbers())
    large = cache.get(entry("b"), numbers(5 * KILOBYTE))
    assert held(cache, *"ab") == ["b"]
    assert cache.get(entry("b"), numbers()) is large


def test_no_more_entries_are_held_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_cache, "MAX_ENTRIES", 2)
    cache = FrozenCache()
    for name in "abc":
        cache.get(entry(name), numbers(1))
    assert held(cache, *"abc") == ["b", "c"]


def test_a_value_may_be_made_of_others() -> None:
    """Zero-shot features ask for token ids while they are computed."""
    cache = FrozenCache(max_bytes=1024)
    outer = cache.get(entry("outer"), lambda: cache.get(entry("inner"), numbers()) + 1)
    assert float(outer[0]) == 1
    assert held(cache, "outer", "inner") == ["outer"]


def test_clearing_drops_everything() -> None:
    cache = FrozenCache()
    first = cache.get(entry("a"), numbers())
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)
    assert cache.get(entry("a"), numbers()) is not first


def test_a_computation_that_fails_leaves_nothing() -> None:
    cache = FrozenCache()
    with pytest.raises(ZeroDivisionError):
        cache.get(entry("a"), lambda: torch.zeros(1) / (1 // 0))
    assert len(cache) == 0


def test_every_kind_of_value_is_counted_by_the_memory_it_holds() -> None:
    whole = torch.zeros(1, 1, 8, 4)
    values = {
        128: torch.zeros(4, 8)[:1],  # a part keeps all of its memory
        160: Sequences(torch.zeros(1, 2, 4), whole, image_map(8)),
        64: {"a": torch.zeros(8), "b": torch.zeros(8)},
        32: ClassTexts(torch.zeros(2, 2, dtype=torch.long), image_map(2)),
    }
    for size, value in values.items():
        cache = FrozenCache()
        cache.get(entry("a"), lambda value=value: value)  # type: ignore[misc]
        assert cache.nbytes == size
    cache = FrozenCache()
    cache.get(entry("a"), lambda: {"a": whole[..., :2], "b": whole[..., 2:]})  # type: ignore[arg-type,return-value]
    assert cache.nbytes == 128, "memory that two tensors share counts once"


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_values_have_no_graph_and_may_enter_a_later_one(mode: Callable[[], Any]) -> None:
    weight = torch.ones(2, requires_grad=True)
    with mode():
        value = FrozenCache().get(entry("a"), lambda: weight * 2)
    assert not value.requires_grad
    assert not value.is_inference()
    (value * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None


def test_the_precision_is_that_of_autocast() -> None:
    assert autocast_precision(CPU) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert autocast_precision(CPU) is torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert autocast_precision(CPU) is None

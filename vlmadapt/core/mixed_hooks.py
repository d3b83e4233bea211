"""Weighted mean of the tokens that two methods inject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import BlockAdapter, Head, Hook, Injection, Tokens
from vlmadapt.errors import PluginError


def mixed_hooks(first: Iterable[Hook], second: Iterable[Hook], share: float) -> Iterator[Hook]:
    """The hooks of a method that injects `(1 - share) * first + share * second`.

    Args:
        first: hooks of a method that injects tokens and does nothing else to the towers.
        second: hooks of another one of the same class and options.
        share: weight of the second one's tokens; 0 and 1 give the tokens of one of them exactly.

    Raises:
        PluginError: a hook adapts a block or projects a feature with tensors of its own, which have no mean here.
    """
    for one, other in zip(first, second, strict=True):
        if isinstance(one, BlockAdapter) or (isinstance(one, Head) and one.project is not None):
            raise PluginError("only injected tokens can be mixed, not block adapters or projection heads.")
        if isinstance(one, Injection) and isinstance(other, Injection):
            pairs = zip(one.layers.items(), other.layers.values(), strict=True)
            yield replace(one, layers={layer: _mixed(tokens, its, share) for (layer, tokens), its in pairs})
        else:
            yield one


def _mixed(first: Tokens, second: Tokens, share: float) -> Tokens:
    if not (callable(first.values) or callable(second.values)):
        return replace(first, values=torch.lerp(first.values, second.values, share))

    def values(fwd: ForwardPass) -> Tensor:
        a, b = (tokens.values(fwd) if callable(tokens.values) else tokens.values for tokens in (first, second))
        return torch.lerp(a, b, share)

    return replace(first, values=values)

"""Putting the tokens that a method declares into the rows of a tower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmadapt.core.backbone import ImageTower, TextTower
from vlmadapt.core.hooks import CONTEXT, EMBEDDING, FIRST, IMAGE, OVER, Injection, Per, Side, Tokens
from vlmadapt.core.plan import TowerPlan
from vlmadapt.core.rows import Rows, Span
from vlmadapt.errors import PluginError

if TYPE_CHECKING:
    from vlmadapt.core.forward import Forward

CONTEXT_SPAN = "context"

Values = dict[tuple[str, int], Tensor]
"""Tokens (groups, rows, n, width) by the name of their injection and the layer they enter at."""


def all_values(plan: TowerPlan, x: Forward, side: Side, variants: list[int] | None) -> Values:
    """The tokens of all injections, by name and layer."""
    return {
        (injection.name, layer): _values(tokens, x, side, variants)
        for injection in plan.injections
        for layer, tokens in injection.layers.items()
    }


def _values(tokens: Tokens, x: Forward, side: Side, variants: list[int] | None) -> Tensor:
    """Tokens as (groups, rows, n, width), 1 where they do not differ."""
    values = tokens.values(x) if callable(tokens.values) else tokens.values
    expected = 2 if tokens.per is Per.ALL else 3
    if values.ndim != expected:
        raise PluginError(
            f"tokens per {tokens.per.value} have {expected} dimensions, these have {tuple(values.shape)}."
        )
    if tokens.per is Per.ALL:
        return values[None, None]
    if tokens.per is Per.CLASS or (tokens.per is Per.VARIANT and side is IMAGE):
        return values[None]
    if tokens.per is Per.VARIANT and variants is not None:
        values = values[variants]
    return values[:, None]


def enter(tower: TextTower | ImageTower, rows: Rows, injection: Injection, layer: int, tokens: Tensor) -> Rows:
    """Insert a token group, or rewrite it where it has entered before."""
    if injection.at is OVER:
        return rows.named(injection.name, 1, tokens.shape[2]).rewrite(injection.name, tokens, injection.blend)
    arrived = layer != min(injection.layers)
    blend = injection.blend if arrived else 1.0
    if injection.at is CONTEXT:
        span = rows.spans[CONTEXT_SPAN]
        if tokens.shape[2] != span.length:
            raise PluginError(f"the template has room for {span.length} learned vectors, {tokens.shape[2]} were given.")
        if layer == EMBEDDING:
            tokens = tower.enter(tokens, _where(span))
        return rows.rewrite(CONTEXT_SPAN, tokens, blend)
    if arrived:
        return rows.rewrite(injection.name, tokens, blend)
    if layer == EMBEDDING and isinstance(tower, ImageTower):
        tokens = tower.enter(tokens, slice(0, 0))
    if injection.at is FIRST:
        return rows.insert(1, tokens, injection.name, hidden=injection.read_only)
    return rows.append(tokens, injection.name, hidden=injection.read_only)


def _where(span: Span) -> Tensor | slice:
    return slice(span.start, span.start + span.length) if span.places is None else span.places


def context_span(places: Tensor) -> Span:
    """The span at places (N, n): contiguous where it is so in all rows."""
    start, length = int(places[0, 0]), places.shape[1]
    straight = torch.arange(start, start + length, device=places.device).expand_as(places)
    return Span(start, length) if torch.equal(places, straight) else Span(0, length, places)

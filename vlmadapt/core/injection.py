"""Token injection: insert a method's tokens into the sequences of a tower, or overwrite tokens there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vlmadapt.core.backbone import TextTower, Tower
from vlmadapt.core.hooks import CONTEXT, EMBEDDING, FIRST, OVER, Injection, Per, Tokens
from vlmadapt.core.plan import TowerPlan
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.side import IMAGE, Side
from vlmadapt.core.token_map import Span
from vlmadapt.errors import PluginError

CONTEXT_SPAN = "context"

Injected = Mapping[tuple[str, int], Tensor]
"""Tokens (groups, rows, n, width) by the name of their injection and the layer they enter at."""


def injected_tokens(plan: TowerPlan, side: Side, width: int, evaluate: Callable[[Tokens], Tensor]) -> Injected:
    """The tokens of all injections of a tower.

    Args:
        plan: plan of the tower.
        side: which tower it is.
        width: width of its tokens.
        evaluate: gives the declared values, of functions too.

    Raises:
        PluginError: tokens have another number of dimensions than what they are declared to differ by asks for, or
            another width than the tower.
    """
    found = {}
    for injection in plan.injections:
        for layer, tokens in injection.layers.items():
            values = _grouped(evaluate(tokens), tokens.per, side)
            if values.shape[-1] != width:
                raise PluginError(
                    f"the tokens '{injection.name}' at layer {layer} are {values.shape[-1]} wide; tokens of the "
                    f"{side.value} tower are {width}."
                )
            found[injection.name, layer] = values
    return found


def _grouped(values: Tensor, per: Per, side: Side) -> Tensor:
    """Tokens as (groups, rows, n, width), with size 1 where they do not differ."""
    expected = 2 if per is Per.ALL else 3
    if values.ndim != expected:
        raise PluginError(f"tokens per {per.value} have {expected} dimensions, these have {tuple(values.shape)}.")
    if per is Per.ALL:
        return values[None, None]
    rows = per is Per.CLASS or (per is Per.VARIANT and side is IMAGE)
    return values[None] if rows else values[:, None]


def inject_tokens(tower: Tower, x: Sequences, injection: Injection, layer: int, tokens: Tensor) -> Sequences:
    """Insert a token group (groups, rows, n, width), or overwrite it if it was inserted at an earlier layer."""
    tokens = tokens.to(x.prefix.dtype)
    if injection.at is OVER:
        named = x.name_span(injection.name, tower.leading, tokens.shape[2])
        return named.rewrite(injection.name, tokens, injection.blend)
    entered = layer != min(injection.layers)
    blend = injection.blend if entered else 1.0
    if injection.at is CONTEXT:
        assert isinstance(tower, TextTower)
        filled = _fill_context(tower, x, tokens, layer, blend)
        return Sequences(filled.prefix, filled.suffix, filled.map.alias(injection.name, CONTEXT_SPAN))
    if entered:
        return x.rewrite(injection.name, tokens, blend)
    if layer == EMBEDDING:
        tokens = tower.first_norm(tokens).to(tokens.dtype)
    if injection.at is FIRST:
        return x.insert(tower.leading, tokens, injection.name, hidden=injection.hidden_from)
    return x.append(tokens, injection.name, hidden=injection.hidden_from)


def _fill_context(tower: TextTower, x: Sequences, tokens: Tensor, layer: int, blend: float) -> Sequences:
    """Write the learned vectors over the placeholders of the template."""
    span = x.map.spans[CONTEXT_SPAN]
    if tokens.shape[2] != span.length:
        raise PluginError(f"the template has room for {span.length} learned vectors, {tokens.shape[2]} were given.")
    if layer == EMBEDDING:
        tokens = tower.embed_extra(tokens, _positions(x, span)).to(tokens.dtype)
    return x.rewrite(CONTEXT_SPAN, tokens, blend)


def _positions(x: Sequences, span: Span) -> Tensor | slice:
    positions = span.positions
    if positions is None:
        return slice(span.start, span.start + span.length)
    return x.map.index("context positions", x.prefix.device, lambda: positions)


def context_span(positions: Tensor) -> Span:
    """The span at positions (N, n): contiguous if it is contiguous and the same in all rows."""
    start, length = int(positions[0, 0]), positions.shape[1]
    contiguous = torch.arange(start, start + length).expand_as(positions)
    return Span(start, length) if torch.equal(positions, contiguous) else Span.scattered(positions)

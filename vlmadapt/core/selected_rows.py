"""Run a text tower for rows that are known on the device alone, such as a random sentence of each class.

The host does not know where these rows end, so all of them are as long as the longest row, every token is computed, and
the pooled tokens are picked from the output. In a causal tower the tokens after them change nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vlmadapt.core.backbone import TextTower
from vlmadapt.core.hooks import END, Read
from vlmadapt.core.injection import Injected
from vlmadapt.core.plan import Optimizations, TowerPlan
from vlmadapt.core.run_tower import ReadOut, run_tower
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import TokenMap
from vlmadapt.errors import PluginError


def selected_map(token_map: TokenMap, rows: int) -> TokenMap:
    """The map of some rows, each computed to its end."""

    def make() -> TokenMap:
        return replace(token_map, rows=rows, pool=torch.full((rows,), token_map.length - 1))

    return token_map.once(("selected", rows), make)


def pooled_positions(token_map: TokenMap, rows: Tensor) -> Tensor:
    """Positions (n,) on the device of the tokens that the tower pools in some rows."""
    pool = token_map.pool
    assert pool is not None
    return token_map.index("pool of all", rows.device, lambda: pool).index_select(0, rows)


def run_selected(
    tower: TextTower,
    plan: TowerPlan,
    x: Sequences,
    pool: Tensor,
    start: int,
    injected: Injected,
    optimizations: Optimizations,
) -> ReadOut:
    """From sequences before block `start` to the tokens that heads read.

    Args:
        tower: text tower.
        plan: its plan.
        x: sequences with a `selected_map`.
        pool: (n,) positions of their pooled tokens, on the device.
        start: the first block to run.
        injected: tokens of the method.
        optimizations: optimisations in use.

    Raises:
        PluginError: tokens are appended.
    """
    if any(injection.at is END for injection in plan.injections):
        raise PluginError(
            "tokens at END of a text cannot be used with rows that are selected on the device; use FIRST."
        )
    every = {name: replace(h, read=Read.ALL) if h.read is Read.POOLED else h for name, h in plan.heads.items()}
    read = run_tower(tower, replace(plan, heads=every), x, start, injected, optimizations)

    def pooled(tokens: Tensor) -> Tensor:
        position = pool + (tokens.shape[2] - x.map.length)  # injected tokens stand before it
        return tokens.gather(2, position[None, :, None, None].expand(tokens.shape[0], -1, 1, tokens.shape[3]))

    tokens = {what: pooled(read.tokens[Read.ALL]) if what is Read.POOLED else read.tokens[what] for what in plan.reads}
    inner = {name: pooled(t) if plan.heads[name].read is Read.POOLED else t for name, t in read.inner.items()}
    return ReadOut(tokens, inner)

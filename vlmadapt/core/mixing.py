"""Branches that mix the tokens of one sequence, as branches over the tokens of all sequences together.

Blocks hold the tokens of all sequences in one tensor. Where a branch mixes tokens, the plan leaves out no token and
shares no prefix (`Optimizations.exact_for`), so that this tensor is the sequences one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.backbone import ImageTower, Tower
from vlmadapt.core.hooks import PATCHES, BlockAdapter, Branch
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import Span
from vlmadapt.errors import PluginError


def over_all_tokens(adapters: Sequence[BlockAdapter], x: Sequences, tower: Tower) -> tuple[BlockAdapter, ...]:
    """Adapters whose branches take the tokens (G, N * T, width) of all sequences."""
    return tuple(_over_all_tokens(adapter, x, tower) if adapter.mixes else adapter for adapter in adapters)


def _over_all_tokens(adapter: BlockAdapter, x: Sequences, tower: Tower) -> BlockAdapter:
    branch: Branch = partial(_checked, adapter)
    if adapter.mixes is PATCHES:
        assert isinstance(tower, ImageTower)
        branch = partial(_on_grid, branch, x.map.spans[PATCHES], tower.grid)
    return replace(adapter, branch=partial(_by_sequence, branch, x.map.rows), mixes=None)


def _by_sequence(branch: Branch, rows: int, tokens: Tensor) -> Tensor:
    """Tokens (G, N * T, width), sequence by sequence through a branch (sequences, T, width)."""
    return branch(tokens.unflatten(1, (rows, -1)).flatten(0, 1)).unflatten(0, (-1, rows)).flatten(1, 2)


def _on_grid(branch: Branch, patches: Span, grid: tuple[int, int], tokens: Tensor) -> Tensor:
    """Sequences (n, T, width) -> what a branch over patches (n, rows, columns, width) adds to them; 0 elsewhere."""
    stop = patches.start + patches.length
    change = branch(tokens[:, patches.start : stop].unflatten(1, grid)).flatten(1, 2)
    return F.pad(change, (0, 0, patches.start, tokens.shape[1] - stop))


def _checked(adapter: BlockAdapter, x: Tensor) -> Tensor:
    change = adapter.branch(x)
    if change.shape[:-1] != x.shape[:-1]:
        raise PluginError(
            f"the branch at {adapter.site.value} of block {adapter.layer} (from 0) of the {adapter.tower.value} tower "
            f"mixes tokens and turns {tuple(x.shape)} into {tuple(change.shape)}; all but the last number must stay."
        )
    return change

"""Run a tower with a method's hooks: from sequences before a block to the features of its heads.

sequences -> [inject tokens -> block with its adapters] x depth -> tokens read -> final norm -> mean -> projection
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from vlmadapt.core.backbone import ImageTower, TextTower
from vlmadapt.core.block import read_tokens, run_block, run_last_block
from vlmadapt.core.hooks import EMBEDDING, Head, Read
from vlmadapt.core.injection import Injected, inject_tokens
from vlmadapt.core.packing import Packing, pack
from vlmadapt.core.patch_path import PatchPath
from vlmadapt.core.plan import Optimizations, TowerPlan
from vlmadapt.core.sequences import Sequences

Tower = TextTower | ImageTower


class ReadOut(NamedTuple):
    """The tokens that heads read.

    Attributes:
        tokens: (G, N, n, width) of the last block's output, by what is read.
        inner: (G, N, n, width) of inner blocks' outputs, by the name of the head.
    """

    tokens: Mapping[Read | str, Tensor]
    inner: Mapping[str, Tensor]


def first_layer(tower: Tower, plan: TowerPlan, optimizations: Optimizations) -> int:
    """The first block that has to run with the hooks."""
    return min(max(plan.first, 0), tower.depth - 1) if optimizations.frozen_layers else 0


def run_frozen_layers(tower: Tower, x: Sequences, layer: int, optimizations: Optimizations) -> Sequences:
    """Run the blocks below `layer`, which no hook touches."""
    for block in tower.blocks[:layer]:
        x = run_block(block, x, _packing(tower, x, optimizations), ())
    return x


def run_tower(
    tower: Tower,
    plan: TowerPlan,
    x: Sequences,
    start: int,
    injected: Injected,
    optimizations: Optimizations,
    path: PatchPath | None = None,
) -> ReadOut:
    """From sequences before block `start`, the one where a path begins at the latest, to the tokens that heads read."""
    inner: dict[str, Tensor] = {}
    for layer in range(EMBEDDING if start == 0 else start, tower.depth):
        for injection in plan.injections:
            if layer in injection.layers:
                x = inject_tokens(tower, x, injection, layer, injected[injection.name, layer])
        if layer == EMBEDDING:
            continue
        if path is not None and layer == path.layer:
            x = path.enter(x)
        packing, adapters = _packing(tower, x, optimizations), plan.adapters.get(layer, ())
        heads = plan.inner_heads(layer)
        if layer == tower.depth - 1 and optimizations.read_tokens:
            reads = tuple(dict.fromkeys((*plan.reads, *(head.read for head in heads))))
            tokens = run_last_block(tower.blocks[layer], x, packing, adapters, reads)
            return ReadOut(tokens, inner | {head.name: tokens[head.read] for head in heads})
        x = run_block(tower.blocks[layer], x, packing, adapters)
        inner |= {head.name: read_tokens(x, (head.read,))[head.read] for head in heads}
    return ReadOut(read_tokens(x, plan.reads), inner)


def head_features(tower: Tower, plan: TowerPlan, read: ReadOut) -> dict[str, Tensor]:
    """Features (G, N, [n,] joint) of all heads from the tokens they read: final norm, mean, projection."""
    normed = {what: tower.norm(read.tokens[what]) for what in plan.reads}
    return {
        name: read.inner[name] if head.after is not None else _project(head, normed[head.read], tower)
        for name, head in plan.heads.items()
    }


def _project(head: Head, normed: Tensor, tower: Tower) -> Tensor:
    if head.read is Read.POOLED and head.project is None:
        return tower.pool(normed)
    averaged = head.mean or head.read is Read.POOLED
    pooled = normed if not averaged else (normed.mean(dim=2) if normed.shape[2] > 1 else normed[:, :, 0])
    if head.project is None:
        return tower.project(pooled)
    return pooled @ head.project if isinstance(head.project, Tensor) else head.project(pooled)


def _packing(tower: Tower, x: Sequences, optimizations: Optimizations) -> Packing:
    return pack(x.map, x.prefix.device, causal=tower.causal, by_length=optimizations.pack)

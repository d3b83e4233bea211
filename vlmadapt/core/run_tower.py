"""Run a tower with a method's hooks: from sequences before a block to the features of its heads.

sequences -> [inject tokens -> block with its adapters] x depth -> tokens read -> final norm -> mean -> projection
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from vlmadapt.core.backbone import Tower
from vlmadapt.core.block import read_tokens, run_block, run_last_block, run_local
from vlmadapt.core.hooks import EMBEDDING, Head, Read
from vlmadapt.core.injection import Injected, inject_tokens
from vlmadapt.core.mixing import over_all_tokens
from vlmadapt.core.packing import Packing, pack
from vlmadapt.core.patch_path import PatchPath
from vlmadapt.core.plan import Optimizations, TowerPlan
from vlmadapt.core.sequences import Sequences


class ReadOut(NamedTuple):
    """The tokens that heads read.

    Attributes:
        tokens: (G, N, n, width) of the last block's output, by what is read; of a text tower that averages its words,
            their mean after the final norm.
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
    optimizations = optimizations.exact_for(plan)
    inner: dict[str, Tensor] = {}
    tokens: dict[Read | str, Tensor] = {}
    for layer in range(EMBEDDING if start == 0 else start, tower.depth):
        for injection in plan.injections:
            if layer in injection.layers:
                x = inject_tokens(tower, x, injection, layer, injected[injection.name, layer])
        if layer == EMBEDDING:
            continue
        if path is not None and layer == path.layer:
            x = path.enter(x)
        block, packing = tower.blocks[layer], _packing(tower, x, optimizations)
        adapters = over_all_tokens(plan.adapters.get(layer, ()), x, tower)
        heads, last = plan.inner_heads(layer), layer == tower.depth - 1
        reads = tuple(dict.fromkeys((*(plan.reads if last else ()), *(head.read for head in heads))))
        local = run_local(block, x, adapters) if Read.LOCAL in reads else None
        mixed = tuple(read for read in reads if read is not Read.LOCAL)
        if last and optimizations.read_tokens:
            tokens = run_last_block(block, x, packing, adapters, mixed)
        else:
            x = run_block(block, x, packing, adapters)
            tokens = read_tokens(x, mixed)
        tokens |= {} if local is None else {Read.LOCAL: local}
        inner |= {head.name: _mean_of_words(x, head.read, tokens[head.read]) for head in heads}
    return ReadOut({read: _mean_of_words(x, read, tokens[read], tower.norm) for read in plan.reads}, inner)


def head_features(tower: Tower, plan: TowerPlan, read: ReadOut) -> dict[str, Tensor]:
    """Features (G, N, [n,] joint) of all heads from the tokens they read: final norm, mean, projection."""
    averaged = {Read.POOLED} if tower.averages else set()
    normed = {what: read.tokens[what] if what in averaged else tower.norm(read.tokens[what]) for what in plan.reads}
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


def _mean_of_words(
    x: Sequences, read: Read | str, tokens: Tensor, norm: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The tokens read; of a text tower that averages its words, the mean (G, N, 1, width), of words that are normed.

    Texts of different lengths then give the same number of tokens.
    """
    weights = x.map.weights
    if read is not Read.POOLED or weights is None:
        return tokens
    tokens = tokens if norm is None else norm(tokens)
    here = x.map.index("weights", tokens.device, lambda: weights).to(tokens.dtype)
    return (tokens * here[:, :, None]).sum(dim=2, keepdim=True)


def _packing(tower: Tower, x: Sequences, optimizations: Optimizations) -> Packing:
    return pack(x.map, x.prefix.device, causal=tower.causal, by_length=optimizations.pack)

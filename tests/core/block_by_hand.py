"""A block as its formula says, written with loops over tokens, and sequences to run it on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts, MlpMaps
from vlmadapt.core.hooks import (
    AFTER_ATTENTION,
    AFTER_BLOCK,
    AFTER_MLP,
    ATTENTION,
    BLOCK,
    HIDDEN,
    KEY,
    MLP,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    NORM1,
    NORM2,
    QUERY,
    VALUE,
    BlockAdapter,
    Site,
)
from vlmadapt.core.packing import Packing, pack
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.side import TEXT
from vlmadapt.core.token_map import TokenMap

WIDTH, HEADS, ROWS, LENGTH = 4, 2, 3, 6
POOL = [3, 5, 4]
CPU = torch.device("cpu")


def matrix(seed: int) -> Tensor:
    return torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Parts(BlockParts):
    """A block whose parts are plain functions."""

    module = nn.Identity()
    heads = HEADS
    norms = (nn.Identity(), nn.Identity())

    def norm1(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def query(self, x: Tensor) -> Tensor:
        return x @ matrix(1)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ matrix(2), x @ matrix(3)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(x), *self.key_value(x)

    def output(self, x: Tensor) -> Tensor:
        return x @ matrix(4) + 1

    def norm2(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)

    def mlp(self, x: Tensor) -> Tensor:
        return (x @ matrix(5)).relu()

    def mlp_maps(self) -> MlpMaps:
        return MlpMaps(lambda x: x @ matrix(5), torch.relu, WIDTH)


PARTS = Parts()


class RelativeParts(Parts):
    """The same with relative positions and another scale of the scores."""

    scale = 0.3

    def position_bias(self, length: int) -> Tensor:
        places = torch.arange(length, dtype=torch.float64)
        distances = places[None] - places[:, None]
        return torch.stack([torch.sin(distances), torch.cos(2 * distances) * distances])


def branch(site: Site, seed: int, replace: bool = False) -> BlockAdapter:
    return BlockAdapter(TEXT, 0, lambda x: torch.sin(x @ matrix(seed)), site, replace)


def with_branches(out: Tensor, adapters: Sequence[BlockAdapter], site: Site, x: Tensor) -> Tensor:
    """What stands at a site after its branches, which read `x`."""
    for a in (a for a in adapters if a.site is site):
        out = a.branch(x) if a.replace else out + a.branch(x)
    return out


def after(out: Tensor, adapters: Sequence[BlockAdapter], site: Site) -> Tensor:
    """What stands at a site after its branches, each of which reads what the one before it left."""
    for a in (a for a in adapters if a.site is site):
        out = a.branch(out) if a.replace else out + a.branch(out)
    return out


def no_bias(head: int, query: int, key: int) -> float:
    return 0.0


def by_hand(
    row: Tensor,
    seen: list[list[int]],
    adapters: Sequence[BlockAdapter] = (),
    scale: float = (WIDTH // HEADS) ** -0.5,
    bias: Callable[[int, int, int], float] = no_bias,
) -> Tensor:
    """One sequence (T, width) through the block; `seen[t]` are the tokens that token t attends to."""
    normed = after(with_branches(torch.tanh(row), adapters, NEXT_TO_NORM1, row), adapters, NORM1)
    query = with_branches(normed @ matrix(1), adapters, QUERY, normed)
    key = with_branches(normed @ matrix(2), adapters, KEY, normed)
    value = with_branches(normed @ matrix(3), adapters, VALUE, normed)
    size = WIDTH // HEADS
    attended = torch.zeros_like(row)
    for t, others in enumerate(seen):
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = [math.exp(float(query[t, part] @ key[o, part]) * scale + bias(head, t, o)) for o in others]
            for score, other in zip(scores, others, strict=True):
                attended[t, part] += score / sum(scores) * value[other, part]
    attention = with_branches(attended @ matrix(4) + 1, adapters, ATTENTION, attended)
    x = row + after(attention, adapters, AFTER_ATTENTION)
    middle = after(with_branches(x - x.mean(-1, keepdim=True), adapters, NEXT_TO_NORM2, x), adapters, NORM2)
    mlp = with_branches(after(middle @ matrix(5), adapters, HIDDEN).relu(), adapters, MLP, middle)
    out = with_branches(x + after(mlp, adapters, AFTER_MLP), adapters, BLOCK, normed)
    return after(out, adapters, AFTER_BLOCK)


def tokens(groups: int = 1, rows: int = ROWS, length: int = LENGTH, same: int = 0) -> Tensor:
    found = torch.randn(groups, rows, length, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found[:, :, :same] = found[:, :1, :same].clone()
    return found


def earlier(length: int) -> list[list[int]]:
    return [list(range(t + 1)) for t in range(length)]


def packing(x: Sequences, by_length: bool, causal: bool = True) -> Packing:
    return pack(x.map, CPU, causal=causal, by_length=by_length)


def texts(prefix_len: int, groups: int = 1) -> Sequences:
    return Sequences.of(tokens(groups, same=3), TokenMap(ROWS, prefix_len, LENGTH, pool=torch.tensor(POOL)))


def assert_as_by_hand(found: Tensor, x: Tensor, adapters: Sequence[BlockAdapter] = ()) -> None:
    """All tokens up to the pooled one are right."""
    for group in range(x.shape[0]):
        for row, end in enumerate(POOL):
            expected = by_hand(x[group, row], earlier(LENGTH), adapters)
            torch.testing.assert_close(found[group, row, : end + 1], expected[: end + 1])


ALL_SITES = tuple(branch(site, 10 + i) for i, site in enumerate(Site))

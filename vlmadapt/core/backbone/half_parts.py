"""Blocks that run in half precision from their input to their output, without autocast.

Autocast casts what each part takes and gives: it runs norms in float32 and adds float32 residuals, two or three casts
for every norm and sum. Here weights, tokens and residuals have one precision; a norm still takes its mean and variance
in float32, inside its kernel. Branches of a method run outside of this, under autocast, with float32 weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from vlmadapt.core.backbone.block_parts import BlockParts, MlpMaps

T = TypeVar("T")


class HalfParts(BlockParts):
    """A view of a block whose weights are held in half precision, in place.

    Args:
        parts: view of the block with its weights in float32.
        dtype: float16 or bfloat16.

    Attributes:
        norms: float32 copies of the norms, from which methods that train norms start.
    """

    def __init__(self, parts: BlockParts, dtype: torch.dtype):
        self._parts, self._dtype = parts, dtype
        self.heads, self.module, self.post_norm = parts.heads, parts.module, parts.post_norm
        self.scale = parts.scale
        norm1, norm2 = (copy.deepcopy(norm) for norm in parts.norms)
        self.norms = norm1, norm2
        parts.module.to(dtype)

    def norm1(self, x: Tensor) -> Tensor:
        return self._run(self._parts.norm1, x)

    def query(self, x: Tensor) -> Tensor:
        return self._run(self._parts.query, x)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._run(self._parts.key_value, x)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._run(self._parts.query_key_value, x)

    def query_norm(self, x: Tensor) -> Tensor:
        return self._run(self._parts.query_norm, x)

    def key_norm(self, x: Tensor) -> Tensor:
        return self._run(self._parts.key_norm, x)

    def rotary(self) -> Tensor | None:
        return self._parts.rotary()

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        return self._parts.rotate(x, angles)

    def position_bias(self, length: int) -> Tensor | None:
        return self._parts.position_bias(length)

    def inner_norm(self, x: Tensor) -> Tensor:
        return self._run(self._parts.inner_norm, x)

    def output(self, x: Tensor) -> Tensor:
        return self._run(self._parts.output, x)

    def post_norm1(self, x: Tensor) -> Tensor:
        return self._run(self._parts.post_norm1, x)

    def norm2(self, x: Tensor) -> Tensor:
        return self._run(self._parts.norm2, x)

    def mlp(self, x: Tensor) -> Tensor:
        return self._run(self._parts.mlp, x)

    def mlp_maps(self) -> MlpMaps | None:
        maps = self._parts.mlp_maps()
        return maps and MlpMaps(partial(self._run, maps.first), partial(self._run, maps.rest), maps.width)

    def post_norm2(self, x: Tensor) -> Tensor:
        return self._run(self._parts.post_norm2, x)

    def _run(self, part: Callable[[Tensor], T], x: Tensor) -> T:
        with torch.autocast(x.device.type, enabled=False):
            return part(x.to(self._dtype))

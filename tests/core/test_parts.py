"""Building blocks of methods."""

from __future__ import annotations

import torch
from torch import nn

from vlmadapt.core.parts import clone_linear, map_each


def test_many_maps_in_one_product_give_what_each_gives_alone() -> None:
    maps = clone_linear(nn.Linear(3, 5), 4).double()
    for number, one in enumerate(maps):
        one.get_parameter("weight").data += number
        one.get_parameter("bias").data -= number
    sources = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in maps]
    stacked = (torch.stack([m.get_parameter(name) for m in maps]) for name in ("weight", "bias"))
    found, expected = map_each(sources, *stacked), [m(x) for m, x in zip(maps, sources, strict=True)]
    inputs = (*sources, *maps.parameters())
    weights = [torch.randn_like(x) for x in expected]
    of_found, of_expected = (
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)), inputs)
        for outputs in (found, expected)
    )
    for one, other in zip((*found, *of_found), (*expected, *of_expected), strict=True):
        torch.testing.assert_close(one, other)

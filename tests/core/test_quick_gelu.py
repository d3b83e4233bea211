"""MLPs with QuickGELU in one pass give the modules' own values and gradients."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from vlmadapt.core.backbone.blocks import view
from vlmadapt.core.backbone.quick_gelu import QuickGeluMlp


@pytest.fixture
def modules() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), QuickGELU(), nn.Linear(24, 6)).double().requires_grad_(False)


@pytest.fixture
def mlp(modules: nn.Sequential) -> QuickGeluMlp:
    found = QuickGeluMlp.of(*modules)
    assert found is not None
    return found


def test_values_and_gradients(modules: nn.Sequential, mlp: QuickGeluMlp) -> None:
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(mlp(x), modules(x))
    weight = torch.randn_like(x)
    torch.testing.assert_close(
        torch.autograd.grad((mlp(x) * weight).sum(), x), torch.autograd.grad((modules(x) * weight).sum(), x)
    )
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), modules(x))


def test_gradients_can_be_differentiated_again(mlp: QuickGeluMlp) -> None:
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mlp, x)
    assert torch.autograd.gradgradcheck(mlp, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_farther_from_the_exact_values_than_the_modules(
    modules: nn.Sequential, dtype: torch.dtype
) -> None:
    x = torch.randn(500, 6, dtype=torch.float64)
    exact = modules(x)
    modules.to(dtype)
    mlp = QuickGeluMlp.of(*modules)
    assert mlp is not None
    fused, plain = ((f(x.to(dtype)).double() - exact).norm() for f in (mlp, modules))
    assert fused < 1.05 * plain


def test_under_autocast_with_weights_in_full_precision(modules: nn.Sequential) -> None:
    modules.float()
    mlp = QuickGeluMlp.of(*modules)
    assert mlp is not None
    x = torch.randn(4, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = mlp(x), modules(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=3e-2, atol=3e-2)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x), rtol=5e-2, atol=5e-2
    )


def test_only_mlps_of_this_kind_are_taken() -> None:
    first, second = nn.Linear(2, 8), nn.Linear(8, 2)
    assert QuickGeluMlp.of(first, nn.GELU(), second) is None
    assert QuickGeluMlp.of(nn.Linear(2, 8, bias=False), QuickGELU(), second) is None


def test_blocks_use_it_unless_their_weights_are_trained() -> None:
    block = ResidualAttentionBlock(8, 2, act_layer=QuickGELU).requires_grad_(False)
    parts = view(block)
    assert parts is not None
    x = torch.randn(3, 8, requires_grad=True)
    assert "_FrozenMlp" in parts.mlp(x).grad_fn.next_functions[0][0].name()
    torch.testing.assert_close(parts.mlp(x), block.mlp(x))
    block.requires_grad_(True)
    torch.autograd.grad(parts.mlp(x).sum(), block.mlp.c_fc.weight)

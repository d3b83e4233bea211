"""Write a method's hooks into the weights of a copy of an open_clip model, where weights can say the same.

A trained norm or MLP replaces the frozen one. Any other block adapter becomes part of the linear map or norm it stands
next to or after. It is affine, which is found by applying it: with rows as vectors, branch(x) = x A + c, c = branch(0)
and A = branch(I) - c. A head with a projection replaces CLIP's own. Everything else (injected tokens, branches in
parallel with a whole block or MLP) is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.blocks import ResidualAttentionBlock
from vlmadapt.core.hooks import (
    AFTER_ATTENTION,
    AFTER_MLP,
    ATTENTION,
    KEY,
    MLP,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    NORM1,
    NORM2,
    QUERY,
    VALUE,
    BlockAdapter,
    Head,
    Read,
)
from vlmadapt.core.plan import Plan
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.errors import AdapterError

ORDER = (NEXT_TO_NORM1, NORM1, QUERY, KEY, VALUE, ATTENTION, AFTER_ATTENTION, NEXT_TO_NORM2, NORM2, MLP, AFTER_MLP)
"""Sites that weights can represent, in the order in which they act."""
REPLACED = {NEXT_TO_NORM1: "ln_1", NEXT_TO_NORM2: "ln_2", MLP: "mlp"}
"""Modules of a block in whose places trained ones stand, by site."""
ROUNDING = 1e-4
"""Largest distance of a branch from what takes its place, relative to its largest value."""


@torch.no_grad()
def merged_model(backbone: Backbone, plan: Plan) -> Any:
    """A copy of a backbone's open_clip model with the hooks of a plan in its weights.

    Raises:
        AdapterError: a hook is none that weights can represent.
    """
    model = copy.deepcopy(backbone.model)
    for side, tower, parts in ((TEXT, plan.text, _text(model)), (IMAGE, plan.image, model.visual)):
        if tower.injections:
            raise AdapterError(f"it injects tokens into the {side} tower, and tokens are no weights of a model.")
        for layer, adapters in tower.adapters.items():
            if not isinstance(backbone.tower(side).blocks[layer], ResidualAttentionBlock):
                raise AdapterError("it adapts blocks of another kind than open_clip's own CLIP towers have.")
            _merge_block(parts.transformer.resblocks[layer], adapters)
        _merge_heads(side, parts, tower.heads.values())
    return model


def _text(model: Any) -> Any:
    return getattr(model, "text", model)


def _merge_block(block: Any, adapters: Sequence[BlockAdapter]) -> None:
    for adapter in adapters:
        if adapter.site not in ORDER:
            raise _no_weight(adapter)
        if adapter.mixes:
            raise AdapterError("it has a branch that mixes the tokens of a sequence, which no weight of a block does.")
    for adapter in sorted(adapters, key=lambda a: ORDER.index(a.site)):  # stable: in the order they are declared
        if adapter.site in REPLACED:
            _replace_module(getattr(block, REPLACED[adapter.site]), adapter, block.attn.embed_dim)
        elif adapter.site in (NORM1, NORM2):
            _scale_norm(block.ln_1 if adapter.site is NORM1 else block.ln_2, adapter)
        elif adapter.site in (QUERY, KEY, VALUE):
            _add(*_input(block.attn, adapter.site), adapter)
        else:
            last = block.mlp.c_proj if adapter.site is AFTER_MLP else block.attn.out_proj
            if not isinstance(block.ls_2 if adapter.site is AFTER_MLP else block.ls_1, nn.Identity):
                raise AdapterError("it adapts a block with layer scales, which are not merged.")
            if adapter.site is ATTENTION:
                _add(last.weight, last.bias, adapter)
            else:
                _apply_after(last, adapter)


def _no_weight(adapter: BlockAdapter) -> AdapterError:
    return AdapterError(f"it has a branch at the site '{adapter.site}' of a block, which no weight can replace.")


def _replace_module(module: nn.Module, adapter: BlockAdapter, width: int) -> None:
    """Give a norm or an MLP (..., width) the tensors of the trained one in its place."""
    if not adapter.replace:
        raise _no_weight(adapter)
    try:
        for name, parameter in module.named_parameters():
            parameter.copy_(attrgetter(name)(adapter.branch))
    except (AttributeError, RuntimeError) as error:  # other tensors, or tensors of other shapes
        raise _no_weight(adapter) from error
    _check_equal(adapter.branch, module, width, next(module.parameters()), _no_weight(adapter))


def _scale_norm(norm: nn.LayerNorm, adapter: BlockAdapter) -> None:
    matrix, shift = _own_map(adapter, norm.weight)
    scale = matrix.diagonal()
    if not torch.equal(matrix, torch.diag(scale)):
        raise AdapterError("it mixes the channels of a norm's output, which a norm cannot.")
    norm.weight.mul_(scale)
    norm.bias.mul_(scale).add_(shift)


def _input(attention: nn.MultiheadAttention, site: str) -> tuple[Tensor, Tensor]:
    """Weight and bias, as views, of the linear map to queries, keys or values."""
    width = attention.embed_dim
    start = (QUERY, KEY, VALUE).index(site) * width
    return attention.in_proj_weight[start : start + width], attention.in_proj_bias[start : start + width]


def _add(weight: Tensor, bias: Tensor, adapter: BlockAdapter) -> None:
    """A branch next to a linear map or in its place, which reads its input."""
    matrix, shift = affine(adapter.branch, weight.shape[1], weight)
    if adapter.replace:
        weight.zero_()
        bias.zero_()
    weight.add_(matrix.T)
    bias.add_(shift)


def _apply_after(linear: nn.Linear, adapter: BlockAdapter) -> None:
    """A branch after a linear map, which reads its output."""
    matrix, shift = _own_map(adapter, linear.weight)
    linear.weight.copy_(matrix.T @ linear.weight)
    linear.bias.copy_(linear.bias @ matrix + shift)


def _own_map(adapter: BlockAdapter, like: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and shift by which a branch after a part changes the part's output."""
    width = like.shape[0]
    matrix, shift = affine(adapter.branch, width, like)
    return (matrix if adapter.replace else matrix + torch.eye(width).to(like)), shift


def affine(function: Callable[[Tensor], Tensor], width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix A (width, n) and shift c (n,) of a function x -> x A + c on rows (..., width).

    Raises:
        AdapterError: the function is none of these.
    """
    shift = function(torch.zeros(1, width).to(like))[0]
    matrix = function(torch.eye(width).to(like)) - shift
    error = AdapterError("it has a branch that is not linear, which no weight can represent.")
    _check_equal(function, lambda x: x @ matrix + shift, width, like, error)
    return matrix, shift


def _check_equal(
    function: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], width: int, like: Tensor, error: Exception
) -> None:
    """Raise an error unless two functions of rows (..., width) agree up to rounding."""
    x = torch.randn(8, width, generator=torch.Generator().manual_seed(0)).to(like)
    expected, found = function(x), other(x)
    if not float((expected - found).abs().max()) <= ROUNDING * max(float(expected.abs().max()), 1e-6):
        raise error


def _merge_heads(side: Side, parts: Any, heads: Iterable[Head]) -> None:
    """Write the projection of the head that has one into the tower; its shift into the bias of the last norm."""
    own = [head for head in heads if head.read is Read.POOLED and head.after is None and head.project is not None]
    if not own:
        return
    if len(own) > 1:
        raise AdapterError(f"it has several projections of the {side} tower's feature; an open_clip model has one.")
    name, norm = ("text_projection", "ln_final") if side is TEXT else ("proj", "ln_post")
    stored, last = getattr(parts, name, None), getattr(parts, norm, None)
    if not isinstance(stored, Tensor | nn.Linear) or not isinstance(last, nn.LayerNorm):
        raise AdapterError(f"it changes the projection of the {side} tower, which is no matrix in this backbone.")
    weight = stored.weight.T if isinstance(stored, nn.Linear) else stored
    project = own[0].project
    if isinstance(project, Tensor):
        matrix, shift = project, None
    else:
        assert project is not None
        matrix, shift = affine(project, weight.shape[0], weight)
    weight.copy_(matrix)
    if shift is not None and shift.any():  # open_clip's projections have no bias: n A + c = (n + d) A with d A = c
        last.bias.add_(torch.linalg.lstsq(matrix.double().T, shift.double()[:, None]).solution[:, 0].to(last.bias))

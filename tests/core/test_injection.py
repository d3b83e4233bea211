"""Each slot puts tokens where it says, embedded as the tower embeds its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.hooks import (
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    OVER,
    Injection,
    Tokens,
    inject,
    per_class,
    per_image,
    per_variant,
)
from vlmadapt.core.injection import CONTEXT_SPAN, context_span, inject_tokens, injected_tokens
from vlmadapt.core.plan import TowerPlan
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.core.token_map import EVERYONE, Span, TokenMap, image_map
from vlmadapt.errors import PluginError

WIDTH = 64


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts(prefix_len: int = 0, **spans: Span) -> Sequences:
    """Two texts of six tokens."""
    tokens = values(1, 2, 6, WIDTH, seed=1)
    tokens[:, :, :3] = tokens[:, :1, :3].clone()
    return Sequences.of(tokens, TokenMap(2, prefix_len, 6, pool=torch.tensor([4, 5]), spans=spans))


def images() -> Sequences:
    return Sequences.of(values(3, 1, 5, WIDTH, seed=2), image_map(5))


def plan(*injections: Injection) -> TowerPlan:
    return TowerPlan(0, injections, {}, {})


# -- values -----------------------------------------------------------------------------------------------------------


def evaluated(tokens: Tokens) -> Tensor:
    """Tokens that are tensors already."""
    assert isinstance(tokens.values, Tensor)
    return tokens.values


@pytest.mark.parametrize(
    ("declare", "shape", "side", "grouped"),
    [
        (lambda v: v, (2, WIDTH), TEXT, (1, 1, 2, WIDTH)),
        (per_class, (5, 2, WIDTH), TEXT, (1, 5, 2, WIDTH)),
        (per_image, (3, 2, WIDTH), TEXT, (3, 1, 2, WIDTH)),
        (per_image, (3, 2, WIDTH), IMAGE, (3, 1, 2, WIDTH)),
        (per_variant, (4, 2, WIDTH), TEXT, (4, 1, 2, WIDTH)),
        (per_variant, (4, 2, WIDTH), IMAGE, (1, 4, 2, WIDTH)),
    ],
)
def test_tokens_get_a_dimension_for_groups_and_one_for_rows(
    declare: Callable[[Tensor], Tensor], shape: tuple[int, ...], side: Side, grouped: tuple[int, ...]
) -> None:
    given = values(*shape)
    hook = inject(side, {1: declare(given)}, at=FIRST, name="new")
    found = injected_tokens(plan(hook), side, WIDTH, evaluated)
    assert found.keys() == {("new", 1)}
    assert found["new", 1].shape == grouped
    assert torch.equal(found["new", 1].flatten(), given.flatten())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (values(2), "tokens per all have 2 dimensions, these have (2,)."),
        (per_class(values(2, WIDTH)), "tokens per class have 3 dimensions, these have (2, 64)."),
        (per_image(values(2, 3, 4, WIDTH)), "tokens per image have 3 dimensions, these have (2, 3, 4, 64)."),
    ],
)
def test_tokens_of_another_shape_are_refused(given: Tensor, expected: str) -> None:
    hook = inject(TEXT, {1: given}, at=FIRST)
    with pytest.raises(PluginError) as refused:
        injected_tokens(plan(hook), TEXT, WIDTH, evaluated)
    assert str(refused.value) == expected


def test_tokens_of_another_width_are_refused() -> None:
    hook = inject(IMAGE, {1: values(2, WIDTH + 1)}, at=FIRST)
    with pytest.raises(PluginError, match=f"'injected' at layer 1 are {WIDTH + 1} wide; tokens of the image tower"):
        injected_tokens(plan(hook), IMAGE, WIDTH, evaluated)


# -- slots ------------------------------------------------------------------------------------------------------------


def entered(backbone: Backbone, x: Sequences, hook: Injection, layer: int, tokens: Tensor) -> Sequences:
    return inject_tokens(backbone.tower(hook.tower), x, hook, layer, tokens)


def test_first_is_after_the_leading_token_and_end_after_the_last(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    for x, side, groups, rows in ((texts(2), TEXT, 1, 2), (images(), IMAGE, 3, 1)):
        first = entered(backbone, x, inject(side, {1: new[0, 0]}, at=FIRST), 1, new)
        last = entered(backbone, x, inject(side, {1: new[0, 0]}, at=END), 1, new)
        whole, wide = x.whole(), new.expand(groups, rows, -1, -1)
        assert torch.equal(first.whole(), torch.cat([whole[:, :, :1], wide, whole[:, :, 1:]], dim=2))
        assert torch.equal(last.whole(), torch.cat([whole, wide], dim=2))


@pytest.mark.parametrize("at", [FIRST, END])
def test_a_group_is_rewritten_at_the_following_layers(backbone: Backbone, at: str) -> None:
    old, new = values(1, 1, 2, WIDTH), values(1, 1, 2, WIDTH, seed=5)
    hook = inject(IMAGE, {1: old[0, 0], 2: new[0, 0]}, at=at, blend=0.25)  # type: ignore[arg-type]
    x = entered(backbone, images(), hook, 1, old)
    assert torch.equal(x.read("injected"), old.expand(3, -1, -1, -1)), "the first layer has nothing to blend with"
    y = entered(backbone, x, hook, 2, new)
    assert y.map.length == x.map.length
    torch.testing.assert_close(y.read("injected"), (0.25 * new + 0.75 * old).expand(3, -1, -1, -1))


def test_over_blends_with_the_patches_from_the_first_layer_on(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    x = images()
    found = entered(backbone, x, inject(IMAGE, {1: new[0, 0]}, at=OVER, blend=0.25), 1, new).whole()
    expected = x.whole().clone()
    expected[:, :, 1:3] = 0.25 * new + 0.75 * expected[:, :, 1:3]
    torch.testing.assert_close(found, expected)


def test_image_tokens_get_the_first_norm_at_the_embedding_alone(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    hook = inject(IMAGE, {EMBEDDING: new[0, 0]}, at=END)
    with torch.no_grad():
        found = entered(backbone, images(), hook, EMBEDDING, new).read("injected")
        assert torch.equal(found, backbone.model.visual.ln_pre(new).expand(3, -1, -1, -1))
        later = entered(backbone, images(), inject(IMAGE, {0: new[0, 0]}, at=END), 0, new).read("injected")
    assert torch.equal(later, new.expand(3, -1, -1, -1))


def test_context_takes_the_placeholders_and_their_positional_embedding(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    hook = inject(TEXT, {EMBEDDING: new[0, 0]}, at=CONTEXT)
    x = texts(3, **{CONTEXT_SPAN: Span(1, 2)})
    expected = x.whole().clone()
    expected[:, :, 1:3] = new + backbone.model.positional_embedding[1:3]
    assert torch.equal(entered(backbone, x, hook, EMBEDDING, new).whole(), expected)
    assert entered(backbone, x, hook, EMBEDDING, new).map.prefix_len == 3


def test_context_at_other_positions_in_each_row_gets_their_embeddings(backbone: Backbone) -> None:
    new, positions = values(1, 1, 2, WIDTH), torch.tensor([[1, 3], [2, 4]])
    hook = inject(TEXT, {EMBEDDING: new[0, 0]}, at=CONTEXT)
    x = texts(0, **{CONTEXT_SPAN: Span.scattered(positions)})
    expected = x.whole().clone()
    for row, places in enumerate(positions.tolist()):
        expected[0, row, places] = new[0, 0] + backbone.model.positional_embedding[places]
    assert torch.equal(entered(backbone, x, hook, EMBEDDING, new).whole(), expected)


def test_deeper_context_has_no_positional_embedding_and_blends(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    hook = inject(TEXT, {EMBEDDING: new[0, 0], 2: new[0, 0]}, at=CONTEXT, blend=0.25)
    x = texts(3, **{CONTEXT_SPAN: Span(1, 2)})
    expected = 0.25 * new + 0.75 * x.whole()[:, :, 1:3]
    torch.testing.assert_close(entered(backbone, x, hook, 2, new).whole()[:, :, 1:3], expected)


def test_context_that_does_not_fill_its_room_is_refused(backbone: Backbone) -> None:
    hook = inject(TEXT, {EMBEDDING: values(3, WIDTH)}, at=CONTEXT)
    with pytest.raises(PluginError, match="the template has room for 2 learned vectors, 3 were given"):
        entered(backbone, texts(3, **{CONTEXT_SPAN: Span(1, 2)}), hook, EMBEDDING, values(1, 1, 3, WIDTH))


def test_read_only_tokens_are_hidden(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH)
    for at in (FIRST, END):
        hook = inject(IMAGE, {1: new[0, 0]}, at=at, read_only=True)
        assert entered(backbone, images(), hook, 1, new).map.hidden == {"injected": (EVERYONE,)}
    assert not entered(backbone, images(), inject(IMAGE, {1: new[0, 0]}, at=END), 1, new).map.hidden


def test_tokens_take_the_precision_of_the_sequence(backbone: Backbone) -> None:
    new = values(1, 1, 2, WIDTH).double()
    assert entered(backbone, images(), inject(IMAGE, {1: new[0, 0]}, at=END), 1, new).suffix.dtype == torch.float32


def test_positions_that_are_the_same_in_all_rows_are_a_plain_span() -> None:
    plain, scattered = context_span(torch.tensor([[2, 3], [2, 3]])), context_span(torch.tensor([[2, 3], [3, 4]]))
    assert (plain.start, plain.length, plain.positions) == (2, 2, None)
    assert scattered.positions is not None
    assert scattered.length == 2
    assert context_span(torch.tensor([[1, 3], [1, 3]])).positions is not None, "one place in between"

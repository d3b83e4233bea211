"""What is derived from declared hooks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.hooks import (
    ATTENTION,
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    MLP,
    OVER,
    PATCHES,
    Head,
    Hook,
    Read,
    adapt,
    head,
    inject,
    per_class,
    per_image,
    per_variant,
    prompt,
    teacher,
)
from vlmadapt.core.plan import POOLED, Optimizations, Plan, TowerPlan, derive
from vlmadapt.core.side import IMAGE, TEXT
from vlmadapt.core.templates import Template
from vlmadapt.errors import BackboneError, PluginError

TEMPLATES = [Template.parse("a photo of a {}."), Template.parse("a drawing of a {}.")]
TOKENS, DEEP = torch.zeros(2, 64), torch.zeros(5, 2, 64)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def plan(backbone: Backbone) -> Callable[..., Plan]:
    return lambda *hooks: derive(hooks, backbone, TEMPLATES)


def branch(x: Tensor) -> Tensor:
    return x


# -- optimisations ----------------------------------------------------------------------------------------------------


def on(name: str) -> set[str]:
    """The optimisations that a plan applies."""
    chosen = Optimizations.named(name)
    return {field.name for field in fields(Optimizations) if getattr(chosen, field.name)}


ALL = {field.name for field in fields(Optimizations)}


def test_the_plan_applies_all_and_the_reference_none() -> None:
    assert on("planned") == ALL
    assert on("reference") == set()
    assert Optimizations.named("planned") == Optimizations()


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_can_be_left_out_or_applied_alone(name: str) -> None:
    assert on(f"planned-{name.replace('_', '-')}") == ALL - {name}
    assert on(f"reference+{name.replace('_', '-')}") == {name}


def test_several_can_be_added_to_the_reference() -> None:
    assert on("reference+keep-teacher+keep-text") == {"keep_teacher", "keep_text"}


@pytest.mark.parametrize(
    "name", ["", "fast", "planned-", "planned+pack", "reference-pack", "reference+", "reference+fast", "planned-pack-x"]
)
def test_an_unknown_plan_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(
        PluginError, match=rf"unknown plan '{name.replace('+', '.')}'; it is .* frozen-layers, .*keep-text"
    ):
        Optimizations.named(name)


# -- what follows from hooks ------------------------------------------------------------------------------------------


def test_without_hooks_both_towers_stay_frozen(plan: Callable[..., Plan], backbone: Backbone) -> None:
    found = plan()
    for side in (TEXT, IMAGE):
        assert found.tower(side).first == backbone.tower(side).depth == 3
        assert found.tower(side).reads == (Read.POOLED,)
        assert list(found.tower(side).heads) == [POOLED]
    assert found.prompts == (TEMPLATES[0],)
    assert found.teacher == teacher(*TEMPLATES)
    assert not found.text_differs_by_image


def test_a_tower_is_frozen_below_the_first_layer_that_a_hook_names(plan: Callable[..., Plan]) -> None:
    assert plan(inject(TEXT, {1: TOKENS, 2: TOKENS}, at=FIRST)).text.first == 1
    assert plan(inject(TEXT, {2: TOKENS}, at=FIRST), adapt(TEXT, 1, branch)).text.first == 1
    assert plan(inject(IMAGE, {EMBEDDING: TOKENS}, at=END)).image.first == EMBEDDING
    assert plan(inject(IMAGE, {1: TOKENS}, at=END)).text.first == 3, "the other tower stays as it is"


def test_hooks_are_sorted_by_tower_layer_and_name(plan: Callable[..., Plan]) -> None:
    one, two, other = adapt(TEXT, 1, branch, MLP), adapt(TEXT, 1, branch, ATTENTION), adapt(IMAGE, 2, branch)
    extra = head(TEXT, "extra", read="new", mean=True)
    new = inject(TEXT, {1: TOKENS}, at=FIRST, name="new")
    found = plan(one, other, new, two, extra)
    assert found.text.adapters == {1: (one, two)}
    assert found.image.adapters == {2: (other,)}
    assert found.text.injections == (new,)
    assert found.text.heads["extra"] is extra
    assert found.text.reads == (Read.POOLED, "new")
    assert found.image.reads == (Read.POOLED,)


def test_tokens_that_several_heads_read_are_computed_once(plan: Callable[..., Plan]) -> None:
    found = plan(head(IMAGE, "a", read=Read.ALL), head(IMAGE, "b", read=Read.ALL), head(IMAGE, "c"))
    assert found.image.reads == (Read.POOLED, Read.ALL)


@pytest.mark.parametrize("local", [head(TEXT, "a", read=Read.LOCAL), head(IMAGE, "a", read=Read.LOCAL, after=1)])
def test_local_tokens_are_of_images_and_of_the_last_block(plan: Callable[..., Plan], local: Head) -> None:
    with pytest.raises(PluginError, match=r"Read\.LOCAL is of an image's tokens after the last block"):
        plan(local)


def test_a_head_may_replace_the_towers_own(plan: Callable[..., Plan]) -> None:
    own = head(IMAGE, POOLED, project=torch.zeros(64, 32))
    assert plan(own).image.heads == {POOLED: own}


def test_text_differs_by_image_where_its_tokens_do(plan: Callable[..., Plan]) -> None:
    assert plan(inject(TEXT, {1: per_image(DEEP)}, at=FIRST)).text_differs_by_image
    assert not plan(inject(IMAGE, {1: per_image(DEEP)}, at=FIRST)).text_differs_by_image
    assert not plan(inject(TEXT, {1: per_class(DEEP)}, at=FIRST)).text_differs_by_image


def test_the_plan_of_an_untouched_tower_reads_its_own_feature(backbone: Backbone) -> None:
    found = TowerPlan.untouched(backbone.text)
    assert (found.first, found.injections, found.adapters, found.reads) == (3, (), {}, (Read.POOLED,))


def test_the_zero_shot_branch_takes_the_declared_templates_or_adds_the_data_sets(plan: Callable[..., Plan]) -> None:
    own = Template.parse("one {}.")
    assert plan(teacher("one {}.")).teacher.templates == (own,)
    added = plan(teacher("one {}.", normalize_each=False, with_dataset_templates=True)).teacher
    assert added.templates == (own, *TEMPLATES)
    assert added.normalize_each is False


def test_each_template_of_a_prompt_is_a_variant(plan: Callable[..., Plan]) -> None:
    hooks = prompt("{} [2].", "[2] {}."), inject(TEXT, {EMBEDDING: per_variant(torch.zeros(2, 2, 64))}, at=CONTEXT)
    assert plan(*hooks).prompts == (Template.parse("{} [2]."), Template.parse("[2] {}."))


# -- refused ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[list[Hook], str]] = [
    ([prompt("a {}."), prompt("a {}.")], "a method declares `prompt` and `teacher` at most once each"),
    ([teacher("a {}."), teacher("a {}.")], "a method declares `prompt` and `teacher` at most once each"),
    ([adapt(TEXT, EMBEDDING, branch)], "there is none at EMBEDDING"),
    ([inject(TEXT, {1: TOKENS}, at=FIRST), inject(TEXT, {2: TOKENS}, at=END)], "two token groups of the text tower"),
    ([inject(IMAGE, {1: TOKENS}, at=FIRST, name="patches")], "'patches' stands for tokens of the tower itself"),
    ([inject(IMAGE, {1: TOKENS}, at=CONTEXT)], "the image tower has none"),
    ([inject(TEXT, {1: TOKENS}, at=OVER)], "OVER replaces the first patches of an image"),
    ([inject(IMAGE, {1: per_class(DEEP)}, at=FIRST)], "tokens per class belong to the text tower"),
    ([inject(TEXT, {EMBEDDING: TOKENS}, at=CONTEXT)], r"tokens go to CONTEXT, but the template has no `\[n\]`"),
    (
        [prompt("[2] {}."), inject(TEXT, {EMBEDDING: TOKENS}, at=CONTEXT, read_only=True)],
        r"read-only or hidden from others are added ones \(FIRST, END\)",
    ),
    ([inject(IMAGE, {1: TOKENS}, at=OVER, read_only=True)], "CONTEXT and OVER replace tokens that are attended to"),
    (
        [inject(IMAGE, {1: TOKENS}, at=END, hidden_from="patch")],
        r"hidden from 'patch'; .* hidden from injected, patches",
    ),
    ([inject(TEXT, {1: TOKENS}, at=END, hidden_from=[PATCHES])], r"hidden from 'patches'; .* hidden from injected"),
    ([prompt("[2] {}.")], r"the template has a `\[n\]`, but no tokens go to CONTEXT"),
]


@pytest.mark.parametrize(("hooks", "message"), REFUSED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_hooks_that_contradict_each_other_are_refused(
    plan: Callable[..., Plan], hooks: Iterable[Hook], message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        plan(*hooks)


@pytest.mark.parametrize("layer", [3, -2])
def test_a_layer_that_the_tower_does_not_have_is_refused(plan: Callable[..., Plan], layer: int) -> None:
    with pytest.raises(BackboneError, match=rf"layer {layer + 1} \(counted from 1\) .* the text tower has 3"):
        plan(inject(TEXT, {layer: TOKENS}, at=FIRST))


def test_groups_of_different_towers_may_have_one_name(plan: Callable[..., Plan]) -> None:
    found = plan(inject(TEXT, {1: TOKENS}, at=FIRST), inject(IMAGE, {1: TOKENS}, at=FIRST))
    assert found.text.injections[0].name == found.image.injections[0].name == "injected"


def test_a_head_that_reads_no_group_of_its_tower_is_refused(plan: Callable[..., Plan]) -> None:
    with pytest.raises(PluginError, match="the head 'extra' of the image tower reads 'new', which is no"):
        plan(inject(TEXT, {1: TOKENS}, at=FIRST, name="new"), head(IMAGE, "extra", read="new"))

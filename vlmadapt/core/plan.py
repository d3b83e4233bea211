"""The plan derived from a method's hooks: which layers stay frozen, which tokens are read, what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from vlmadapt.core.backbone import Backbone, Tower
from vlmadapt.core.hooks import (
    CONTEXT,
    EMBEDDING,
    HIDDEN,
    OVER,
    PATCHES,
    BlockAdapter,
    Head,
    Hook,
    Injection,
    Per,
    Prompt,
    Read,
    Teacher,
)
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.core.templates import Template
from vlmadapt.core.token_map import EVERYONE, LEADING, WORDS
from vlmadapt.errors import BackboneError, PluginError
from vlmadapt.registry.listing import OK, PluginInfo, list_plugins

POOLED = "pooled"
"""Name of the head that every tower has: CLIP's own feature."""


@dataclass(frozen=True)
class Optimizations:
    """Optimisations that the engine may apply. Each leaves the result unchanged and can be disabled on its own.

    Attributes:
        frozen_layers: below the first touched layer, keep text activations for each class list, and share image
            activations between the adapted and the zero-shot branch.
        shared_prefix: in a causal text tower, run the tokens before the class name once for all classes, where that
            saves more than it costs on the device.
        pack: in a text tower that is causal or masks padding, compute classes in buckets of about the same length.
        truncate: in such a tower, compute nothing after the end of the longest text.
        read_tokens: in the last block, compute only the tokens that heads read.
        keep_teacher: compute the text features of the zero-shot branch once for each class list.
        share_classes: with several processes, let each encode its share of the classes and exchange the features.
        keep_text: without gradients, keep text features until the method changes.
    """

    frozen_layers: bool = True
    shared_prefix: bool = True
    pack: bool = True
    truncate: bool = True
    read_tokens: bool = True
    keep_teacher: bool = True
    share_classes: bool = True
    keep_text: bool = True

    @classmethod
    def named(cls, name: str) -> Optimizations:
        """`planned` (all of them) or `reference` (none); for measurements `planned-NAME` or `reference+NAME+NAME`.

        `reference+keep-teacher+keep-text` is how published code computes.

        Raises:
            PluginError: it is none of these.
        """
        known = {field.name.replace("_", "-"): field.name for field in fields(cls)}
        base, *changed = name.split("-", 1) if name.startswith("planned-") else name.split("+")
        well_formed = base in ("planned", "reference") and not (base == "planned" and "+" in name)
        if not well_formed or not known.keys() >= {*changed}:
            raise PluginError(
                f"unknown plan '{name}'; it is 'planned', 'reference', or for measurements 'planned-NAME' or "
                f"'reference+NAME' with one of {', '.join(known)}."
            )
        named = {known[word] for word in changed}
        return cls(**{field: (field in named) != (base == "planned") for field in known.values()})

    def exact_for(self, plan: TowerPlan) -> Optimizations:
        """These without those that leave out or share tokens, where branches mix the tokens of a sequence."""
        if not plan.mixes:
            return self
        return replace(self, shared_prefix=False, pack=False, truncate=False, read_tokens=False)


@dataclass(frozen=True)
class TowerPlan:
    """The hooks of one tower.

    Attributes:
        first: first layer that can differ from the frozen tower; `depth` if none can.
        injections: token groups.
        adapters: block adapters by layer.
        heads: features to compute, always including the tower's own feature `pooled`.
    """

    first: int
    injections: tuple[Injection, ...]
    adapters: dict[int, tuple[BlockAdapter, ...]]
    heads: dict[str, Head]

    @property
    def reads(self) -> tuple[Read | str, ...]:
        """Which output tokens are needed."""
        return tuple(dict.fromkeys(head.read for head in self.heads.values() if head.after is None))

    @property
    def mixes(self) -> bool:
        """Whether some branch mixes the tokens of a sequence, so that each of them may matter."""
        return any(adapter.mixes for adapters in self.adapters.values() for adapter in adapters)

    def inner_heads(self, layer: int) -> tuple[Head, ...]:
        """Heads that read the output of a block."""
        return tuple(head for head in self.heads.values() if head.after == layer)

    def leaves_untouched(self, tower: Tower) -> bool:
        """Whether all heads read what the frozen tower pools, so that it is the same for every method."""
        inner = any(head.after is not None for head in self.heads.values())
        return self.first >= tower.depth and self.reads == (Read.POOLED,) and not inner

    @classmethod
    def untouched(cls, tower: Tower) -> TowerPlan:
        """The plan of a tower without hooks: its own feature alone."""
        return cls(tower.depth, (), {}, {POOLED: Head(IMAGE, POOLED, Read.POOLED, mean=False, project=None)})


@dataclass(frozen=True)
class Plan:
    """The hooks of both towers, the templates written for each class, and those of the zero-shot branch."""

    text: TowerPlan
    image: TowerPlan
    prompts: tuple[Template, ...]
    teacher: Teacher

    @property
    def text_differs_by_image(self) -> bool:
        """Whether some text tokens depend on the image, so that each image has text features of its own."""
        return any(tokens.per is Per.IMAGE for i in self.text.injections for tokens in i.layers.values())

    def tower(self, side: Side) -> TowerPlan:
        """The plan of a side."""
        return self.text if side is TEXT else self.image


def derive(hooks: Iterable[Hook], backbone: Backbone, templates: Sequence[Template]) -> Plan:
    """Sort declared hooks by tower and find the first layer that each tower is touched at.

    Args:
        hooks: hooks that the method declares.
        backbone: backbone, for the depth of its towers.
        templates: templates of the data set, used if the method declares none.

    Raises:
        BackboneError: a hook needs access to a tower without `blocks`, or a layer that does not exist.
        PluginError: hooks contradict each other.
    """
    declared = _declared(hooks)
    prompts = [hook for hook in declared if isinstance(hook, Prompt)]
    teachers = [hook for hook in declared if isinstance(hook, Teacher)]
    if len(prompts) > 1 or len(teachers) > 1:
        raise PluginError("a method declares `prompt` and `teacher` at most once each.")
    written = prompts[0].templates if prompts else tuple(templates[:1])
    plan = Plan(
        text=_tower_plan(declared, TEXT, backbone.text),
        image=_tower_plan(declared, IMAGE, backbone.image),
        prompts=written,
        teacher=_zero_shot_templates(teachers, templates),
    )
    _check_contexts(plan)
    return plan


def _declared(hooks: object) -> list[Hook]:
    """The hooks as a list; a plugin may have given anything."""
    kinds = (Prompt, Injection, BlockAdapter, Head, Teacher)
    if isinstance(hooks, kinds):
        raise PluginError("`hooks` returns a single hook; yield it, or return a list of hooks.")
    if not isinstance(hooks, Iterable):
        raise PluginError(f"`hooks` returns {type(hooks).__name__}; yield hooks, or return a list of them.")
    found = list(hooks)
    for hook in found:
        if not isinstance(hook, kinds):
            raise PluginError(
                f"`hooks` gives a {type(hook).__name__}; make hooks with `prompt`, `inject`, `adapt`, `head` or "
                "`teacher`."
            )
    return found


def _zero_shot_templates(declared: Sequence[Teacher], templates: Sequence[Template]) -> Teacher:
    """The declared teacher, with the data set's templates if it includes them; by default those alone."""
    if not declared:
        return Teacher(tuple(templates), normalize_each=True)
    (teacher,) = declared
    return replace(teacher, templates=(*teacher.templates, *templates)) if teacher.with_dataset_templates else teacher


def _tower_plan(hooks: Sequence[Hook], side: Side, tower: Tower) -> TowerPlan:
    injections = tuple(h for h in hooks if isinstance(h, Injection) and h.tower is side)
    adapters = tuple(h for h in hooks if isinstance(h, BlockAdapter) and h.tower is side)
    heads = tuple(h for h in hooks if isinstance(h, Head) and h.tower is side)
    layers = [layer for injection in injections for layer in injection.layers] + [a.layer for a in adapters]
    layers += [h.after for h in heads if h.after is not None]
    if (layers or heads) and not tower.blocks:
        raise BackboneError(untouchable(side, tower))
    outside = [layer for layer in layers if not EMBEDDING <= layer < tower.depth]
    if outside:
        raise BackboneError(
            f"layer {outside[0] + 1} (counted from 1) is used, but the {side.value} tower has {tower.depth}."
        )
    if any(a.layer == EMBEDDING for a in adapters):
        raise PluginError("a block adapter belongs to a block, counted from 0; there is none at EMBEDDING.")
    _check_branches(side, tower, adapters)
    _check_token_groups(side, injections, heads)
    known = {h.name: h for h in (Head(side, POOLED, Read.POOLED, mean=False, project=None), *heads)}
    by_layer: dict[int, tuple[BlockAdapter, ...]] = {}
    for adapter in adapters:
        by_layer[adapter.layer] = (*by_layer.get(adapter.layer, ()), adapter)
    return TowerPlan(min(layers, default=tower.depth), injections, by_layer, known)


def _check_branches(side: Side, tower: Tower, adapters: Sequence[BlockAdapter]) -> None:
    for adapter in adapters:
        if adapter.site is HIDDEN:
            tower.hidden_width(adapter.layer)  # refused where the MLP has no such layer
        if adapter.mixes is PATCHES and side is TEXT:
            raise PluginError("a branch mixes PATCHES, of which a text has none; use ROW.")
        if adapter.mixes is PATCHES and adapter.replace:
            raise PluginError(
                "a branch that mixes PATCHES is added; it cannot replace what other tokens have at its site."
            )


def _check_token_groups(side: Side, injections: Sequence[Injection], heads: Sequence[Head]) -> None:
    names = [i.name for i in injections]
    if len(set(names)) < len(names):
        raise PluginError(f"two token groups of the {side.value} tower have the same name; give each its own `name`.")
    taken = {PATCHES, LEADING, WORDS, EVERYONE}.intersection(names)
    if taken:
        raise PluginError(f"'{min(taken)}' stands for tokens of the tower itself; give the token group another `name`.")
    if side is IMAGE and any(i.at is CONTEXT for i in injections):
        raise PluginError("CONTEXT replaces the `[n]` of a text template; the image tower has none.")
    if side is TEXT and any(i.at is OVER for i in injections):
        raise PluginError("OVER replaces the first patches of an image; a text has none.")
    if side is IMAGE and any(t.per is Per.CLASS for i in injections for t in i.layers.values()):
        raise PluginError("tokens per class belong to the text tower; an image has no class yet.")
    _check_visibility(side, injections)
    for head in heads:
        if head.read is Read.LOCAL and (side is TEXT or head.after is not None):
            raise PluginError(
                "Read.LOCAL is of an image's tokens after the last block: give it to a head of IMAGE without `after`."
            )
        if not isinstance(head.read, Read) and head.read not in names:
            raise PluginError(
                f"the head '{head.name}' of the {side.value} tower reads '{head.read}', which is no token group there."
            )


def _check_visibility(side: Side, injections: Sequence[Injection]) -> None:
    """Hidden groups, and those they are hidden from, stand at the same positions in every sequence."""
    seen_from = {i.name for i in injections if i.at is not CONTEXT} | ({str(PATCHES)} if side is IMAGE else set())
    for injection in injections:
        if injection.hidden_from and injection.at in (CONTEXT, OVER):
            raise PluginError(
                "tokens that are read-only or hidden from others are added ones (FIRST, END); CONTEXT and OVER replace "
                "tokens that are attended to."
            )
        unknown = {*injection.hidden_from} - seen_from - {EVERYONE}
        if unknown:
            raise PluginError(
                f"the {side.value} tower's tokens '{injection.name}' are hidden from '{min(unknown)}'; they can be "
                f"hidden from {', '.join(sorted(seen_from))}."
            )


def _check_contexts(plan: Plan) -> None:
    wants_context = any(i.at is CONTEXT for i in plan.text.injections)
    lengths = {template.learned for template in plan.prompts}
    if wants_context and lengths == {0}:
        raise PluginError("tokens go to CONTEXT, but the template has no `[n]`; declare it with `prompt('[4] {}.')`.")
    if not wants_context and lengths != {0}:
        raise PluginError("the template has a `[n]`, but no tokens go to CONTEXT.")


def untouchable(side: Side, tower: Tower) -> str:
    """Message that a tower cannot be touched, and what to do."""
    outside = [plugin.name for plugin in list_plugins("method") if works_outside(plugin, side)]
    why = "which has feature maps instead of tokens, so that" if tower.on_feature_maps else "of which"
    return (
        f"this method works inside the {side.value} tower, but this backbone's is a {tower.family}, {why} only the "
        f"output can be used; run a method that works outside it ({', '.join(outside) or 'none is installed'}), or "
        "choose a backbone with a plain transformer there, such as ViT-B-16:openai."
    )


def works_outside(plugin: PluginInfo, side: Side) -> bool:
    """Whether an installed method says that it works outside a tower."""
    return plugin.status == OK and plugin.source is not None and side.value not in plugin.source.touches

"""What follows from a method's hooks: which layers cannot change, which tokens are read, what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from vlmadapt.core.hooks import (
    CONTEXT,
    EMBEDDING,
    IMAGE,
    OVER,
    TEXT,
    Adapter,
    Head,
    Hook,
    Injection,
    Per,
    Prompt,
    Read,
    Side,
    Teacher,
)
from vlmadapt.core.templates import Template
from vlmadapt.errors import BackboneError, PluginError

if TYPE_CHECKING:
    from vlmadapt.core.backbone import Backbone, ImageTower, TextTower

CLASS_HEAD = "class"


@dataclass(frozen=True)
class Rules:
    """What the engine may leave out because it cannot matter; each rule is exact and can be switched off alone.

    Attributes:
        frozen_layers: below the first touched layer, text activations are kept per class list, and image activations
            are shared by the adapted and the zero-shot branch.
        shared_prefix: in a causal text tower, the tokens before the class name go through once for all classes.
        pack: in a causal text tower, classes are computed in buckets of about the same length, with little padding.
        truncate: in a causal text tower, nothing behind the longest end of text is computed.
        read_tokens: the last block computes only the tokens that heads read.
        keep_teacher: the text features of the zero-shot branch are computed once per class list.
        share_classes: with several processes, each encodes its share of the classes; features are exchanged.
        keep_text: without gradients, text features are kept until a parameter changes.
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
    def named(cls, name: str) -> Rules:
        """`planned` (all rules) or `reference` (none); for measurements `planned-RULE` or `reference+RULE+RULE`.

        `reference+keep-teacher+keep-text` leaves out what published code leaves out too.

        Raises:
            PluginError: it is none of these.
        """
        known = {field.name.replace("_", "-"): field.name for field in fields(cls)}
        base, *rules = name.split("-", 1) if name.startswith("planned-") else name.split("+")
        if base not in ("planned", "reference") or (base == "planned" and "+" in name) or not known.keys() >= {*rules}:
            raise PluginError(
                f"unknown plan '{name}'; it is 'planned', 'reference', or for measurements 'planned-RULE' or "
                f"'reference+RULE' with one of {', '.join(known)}."
            )
        named = {known[rule] for rule in rules}
        return cls(**{rule: (rule in named) != (base == "planned") for rule in known.values()})


@dataclass(frozen=True)
class TowerPlan:
    """The hooks of one tower.

    Attributes:
        first: the first layer that can differ from the frozen tower; `depth` where nothing does.
        injections: token groups.
        adapters: branches by layer.
        heads: features to compute, the tower's own `class` feature always among them.
    """

    first: int
    injections: tuple[Injection, ...]
    adapters: dict[int, tuple[Adapter, ...]]
    heads: dict[str, Head]

    @property
    def reads(self) -> tuple[Read | str, ...]:
        """Which output tokens are needed."""
        return tuple(dict.fromkeys(head.read for head in self.heads.values()))


@dataclass(frozen=True)
class Plan:
    """The hooks of both towers, the texts written for each class, and the texts of the zero-shot branch."""

    text: TowerPlan
    image: TowerPlan
    prompts: tuple[Template, ...]
    teacher: Teacher

    def tower(self, side: Side) -> TowerPlan:
        """The plan of a side."""
        return self.text if side is TEXT else self.image


def derive(hooks: Iterable[Hook], backbone: Backbone, templates: Sequence[Template]) -> Plan:
    """Sort declared hooks by tower and find the first layer each tower is touched at.

    Args:
        hooks: what the method declares.
        backbone: for the geometry of its towers.
        templates: the data set's, used where the method declares none.

    Raises:
        BackboneError: a hook needs what a tower lacks, or a layer it does not have.
        PluginError: hooks contradict each other.
    """
    declared = list(hooks)
    prompts = [hook for hook in declared if isinstance(hook, Prompt)]
    teachers = [hook for hook in declared if isinstance(hook, Teacher)]
    if len(prompts) > 1 or len(teachers) > 1:
        raise PluginError("a method declares `prompt` and `teacher` at most once each.")
    written = prompts[0].templates if prompts else tuple(templates[:1])
    plan = Plan(
        text=_tower_plan(declared, TEXT, backbone.text),
        image=_tower_plan(declared, IMAGE, backbone.image),
        prompts=written,
        teacher=_with_own(teachers[0], templates) if teachers else Teacher(tuple(templates), unit=True),
    )
    _check_contexts(plan)
    return plan


def _with_own(teacher: Teacher, templates: Sequence[Template]) -> Teacher:
    """The teacher with the data set's templates added where it asks for them."""
    return replace(teacher, templates=(*teacher.templates, *templates)) if teacher.own else teacher


def _tower_plan(hooks: Sequence[Hook], side: Side, tower: TextTower | ImageTower) -> TowerPlan:
    injections = tuple(h for h in hooks if isinstance(h, Injection) and h.tower is side)
    adapters = tuple(h for h in hooks if isinstance(h, Adapter) and h.tower is side)
    heads = tuple(h for h in hooks if isinstance(h, Head) and h.tower is side)
    layers = [layer for injection in injections for layer in injection.layers] + [a.layer for a in adapters]
    if (layers or heads) and not tower.blocks:
        raise BackboneError(untouchable(side, tower))
    outside = [layer for layer in layers if not EMBEDDING <= layer < tower.depth]
    if outside:
        raise BackboneError(
            f"layer {outside[0] + 1} (counted from 1) is asked for, but the {side.value} tower has {tower.depth}."
        )
    if any(a.layer == EMBEDDING for a in adapters):
        raise PluginError("a branch stands beside a block, counted from 0; there is none at EMBEDDING.")
    names = [i.name for i in injections]
    if len(set(names)) < len(names):
        raise PluginError(f"two token groups of the {side.value} tower have the same name; give each its own `name`.")
    if side is IMAGE and any(i.at is CONTEXT for i in injections):
        raise PluginError("CONTEXT stands for the `[n]` of a text template; the image tower has none.")
    if side is TEXT and any(i.at is OVER for i in injections):
        raise PluginError("OVER stands for the first patches of an image; a text has none.")
    if side is IMAGE and any(t.per is Per.CLASS for i in injections for t in i.layers.values()):
        raise PluginError("tokens per class belong to the text tower; an image has no class yet.")
    known = {h.name: h for h in (Head(side, CLASS_HEAD, Read.CLASS, mean=False, project=None), *heads)}
    by_layer: dict[int, tuple[Adapter, ...]] = {}
    for adapter in adapters:
        by_layer[adapter.layer] = (*by_layer.get(adapter.layer, ()), adapter)
    return TowerPlan(min(layers, default=tower.depth), injections, by_layer, known)


def _check_contexts(plan: Plan) -> None:
    wants_context = any(i.at is CONTEXT for i in plan.text.injections)
    rooms = {template.learned for template in plan.prompts}
    if wants_context and rooms == {0}:
        raise PluginError("tokens go to CONTEXT, but the template has no `[n]`; declare it with `prompt('[4] {}.')`.")
    if not wants_context and rooms != {0}:
        raise PluginError("the template has a `[n]`, but no tokens go to CONTEXT.")


def untouchable(side: Side, tower: TextTower | ImageTower) -> str:
    """Why a tower cannot be touched, and what to do."""
    return (
        f"this method works inside the {side.value} tower, but this backbone's is a {tower.family}, of which only the "
        "output can be used; choose a backbone with a plain transformer there, such as ViT-B-16:openai."
    )

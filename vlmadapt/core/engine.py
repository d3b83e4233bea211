"""Runs the towers with a method's hooks, leaving out what the rules of the plan show cannot matter.

With all rules off this is the reference: every layer, every token, as the papers write it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlmadapt.core.backbone import Backbone, ImageTower, TextTower
from vlmadapt.core.block import read_rows, run_block, run_last_block
from vlmadapt.core.hooks import EMBEDDING, IMAGE, TEXT, Head, Per, Read
from vlmadapt.core.injection import CONTEXT_SPAN, Values, all_values, context_span, enter
from vlmadapt.core.layout import lay_out
from vlmadapt.core.numerics import unit
from vlmadapt.core.plan import CLASS_HEAD, Rules, TowerPlan
from vlmadapt.core.rows import Rows
from vlmadapt.core.sharing import chunks, gather_classes, many_processes, my_share
from vlmadapt.core.templates import Template

if TYPE_CHECKING:
    from vlmadapt.core.forward import Forward

_PLAIN_HEAD = Head(IMAGE, CLASS_HEAD, Read.CLASS, mean=False, project=None)
_KEPT = 8
"""Class lists (times templates and layers) whose frozen text activations are kept at once."""

T = TypeVar("T")


class Engine:
    """Computes features of images and classes for a backbone under a set of rules.

    Args:
        backbone: frozen.
        rules: what may be left out; all of it by default.
        class_chunk: classes that go through the text tower at once; with gradients, the activations of the others are
            computed again in the backward pass. 0 takes all at once.
    """

    def __init__(self, backbone: Backbone, rules: Rules | None = None, class_chunk: int = 0):
        self.backbone = backbone
        self.rules = rules or Rules()
        self.class_chunk = class_chunk
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._answered: tuple[Hashable, dict[str, Tensor]] | None = None

    # -- image side ---------------------------------------------------------------------------------------------------

    def image_features(self, x: Forward) -> dict[str, Tensor]:
        """Unnormalised image features (B, [passes,] [tokens,] joint) by head."""
        tower, plan = self.backbone.image, x.plan.image
        if not tower.blocks:
            return {CLASS_HEAD: self._opaque_image(x)}
        start = self._start(tower, plan)
        with torch.set_grad_enabled(_touched(tower, plan) and torch.is_grad_enabled()):
            values = all_values(plan, x, IMAGE, None)
            tokens = self._run(tower, plan, self._image_rows(x, start), start, values)
        return {name: _drop(f, 1) for name, f in self._features(tower, plan, tokens).items()}

    def zero_shot_image(self, x: Forward) -> Tensor:
        """Unnormalised frozen features (B, joint) of the same images."""
        tower, plan = self.backbone.image, x.plan.image
        if not tower.blocks:
            return self._opaque_image(x)
        start = self._start(tower, plan)
        with torch.no_grad():
            empty = _untouched(tower)
            tokens = self._run(tower, empty, self._image_rows(x, start), start, {})
            return _drop(self._features(tower, empty, tokens)[CLASS_HEAD], 1)

    def _image_rows(self, x: Forward, layer: int) -> Rows:
        """Frozen rows of the batch before block `layer`, computed once per batch."""

        def compute() -> Rows:
            tower = self.backbone.image
            rows = Rows.of(tower.embed(x.images)[:, None], None, {})
            return self._frozen_layers(tower, rows, layer)

        if not self.rules.frozen_layers:
            return _without_graph(compute)
        return x.once_for_images(("rows", layer), lambda: _without_graph(compute))

    def _opaque_image(self, x: Forward) -> Tensor:
        """Features of a tower that can only be asked for its output."""
        return x.once_for_images("opaque", lambda: _without_graph(lambda: self.backbone.image.encode(x.images)))

    # -- text side ----------------------------------------------------------------------------------------------------

    def text_features(self, x: Forward) -> dict[str, Tensor]:
        """Unnormalised text features ([variants or images,] classes, [tokens,] joint) by head."""
        state = x.method_state()
        if torch.is_grad_enabled() or not self.rules.keep_text or state is None or _per_image(x.plan.text):
            return self._text_features(x)
        key = (x.names, x.plan.prompts, _autocast(x), state)
        if self._answered is None or self._answered[0] != key:
            self._answered = (key, self._text_features(x))
        return self._answered[1]

    def _text_features(self, x: Forward) -> dict[str, Tensor]:
        tower, plan = self.backbone.text, x.plan.text
        templates = x.plan.prompts
        if not tower.blocks:
            return {CLASS_HEAD: self._opaque_text(x, templates[0])}
        found = [self._variants(x, template, templates) for template in dict.fromkeys(templates)]
        order = [i for template in dict.fromkeys(templates) for i, t in enumerate(templates) if t == template]
        features = {name: torch.cat([f[name] for f in found]) for name in plan.heads}
        if order != sorted(order):
            back = torch.tensor(order, device=x.device).argsort()
            features = {name: f[back] for name, f in features.items()}
        # Tokens of the shared prefix are read once; they are every class's.
        return {name: _drop(f.expand(f.shape[0], len(x.names), *f.shape[2:]), 0) for name, f in features.items()}

    def _variants(self, x: Forward, template: Template, templates: tuple[Template, ...]) -> dict[str, Tensor]:
        """Features of the rows written with one template; tokens per variant are cut to those rows."""
        tower, plan = self.backbone.text, x.plan.text
        variants = [i for i, t in enumerate(templates) if t == template] if len(templates) > 1 else None
        if _touched(tower, plan):
            features = self._by_class(x, template, variants)
        else:
            tokens = self._frozen_tokens(x, template)
            features = self._features(tower, plan, tokens)
        if variants is None:
            return features
        return {name: f.expand(len(variants), *f.shape[1:]) for name, f in features.items()}

    def _by_class(self, x: Forward, template: Template, variants: list[int] | None) -> dict[str, Tensor]:
        """Features of a touched tower, class by class as far as memory and processes ask for it."""
        tower, plan = self.backbone.text, x.plan.text
        start = self._start(tower, plan)
        rows = self._text_rows(x, template, start)
        values = all_values(plan, x, TEXT, variants)
        shared_out = self._shares_classes(x)
        first, last = my_share(len(x.names)) if shared_out else (0, len(x.names))

        def some(low: int, high: int) -> dict[str, Tensor]:
            part = {key: v[:, low:high] if v.shape[1] > 1 else v for key, v in values.items()}
            tokens = self._run(tower, plan, rows.rows(low, high), start, part)
            features = self._features(tower, plan, tokens)
            return {name: f.expand(f.shape[0], high - low, *f.shape[2:]) for name, f in features.items()}

        pieces = chunks(first, last, self.class_chunk)
        if len(pieces) > 1 and torch.is_grad_enabled():
            found = [checkpoint(some, low, high, use_reentrant=False) for low, high in pieces]
        else:
            found = [some(low, high) for low, high in pieces]
        features = {name: torch.cat([f[name] for f in found], dim=1) for name in plan.heads}
        if shared_out:
            features = {name: gather_classes(f, len(x.names)) for name, f in features.items()}
        return features

    def _shares_classes(self, x: Forward) -> bool:
        """Whether each process encodes only some of the classes, which are then exchanged."""
        return (
            self.rules.share_classes
            and torch.is_grad_enabled()
            and many_processes()
            and len(x.names) >= dist.get_world_size()
            and not _per_image(x.plan.text)
        )

    def _frozen_tokens(self, x: Forward, template: Template) -> dict[Read | str, Tensor]:
        """What heads read of an untouched text tower."""
        plan = x.plan.text

        def run() -> dict[Read | str, Tensor]:
            return self._run_untouched(x, plan, template)

        key = ("tokens", template, x.names, plan.reads, _autocast(x))
        return self._keep(key, run) if self.rules.frozen_layers else _without_graph(run)

    def zero_shot_text(self, x: Forward) -> Tensor:
        """Unit frozen features (classes, joint), averaged over the teacher's templates."""
        teacher = x.plan.teacher

        def compute() -> Tensor:
            features = [self._plain_text(x, template) for template in teacher.templates]
            if teacher.unit:
                features = [unit(f) for f in features]
            return unit(torch.stack(features).mean(0))

        key = ("zero-shot", teacher, x.names, _autocast(x))
        return self._keep(key, compute) if self.rules.keep_teacher else _without_graph(compute)

    def _plain_text(self, x: Forward, template: Template) -> Tensor:
        tower = self.backbone.text
        if not tower.blocks:
            return self._opaque_text(x, template)
        empty = _untouched(tower)
        return self._features(tower, empty, self._run_untouched(x, empty, template))[CLASS_HEAD][0]

    def _opaque_text(self, x: Forward, template: Template) -> Tensor:
        """Features of a tower that can only be asked for its output."""
        tower = self.backbone.text

        def encode() -> Tensor:
            ids = template.write(x.names, tower).ids.to(x.device)
            return torch.cat([tower.encode(ids[low:high]) for low, high in chunks(0, len(ids), self.class_chunk)])

        return self._keep(("opaque", template, x.names, _autocast(x)), encode)

    def _text_rows(self, x: Forward, template: Template, layer: int) -> Rows:
        """Frozen rows of a class list before block `layer`, computed once per class list."""
        tower = self.backbone.text

        def compute() -> Rows:
            written = found = self._written(x, template)
            for low, high in chunks(0, len(x.names), self.class_chunk):
                part = self._frozen_layers(tower, _embedded(tower, written.rows(low, high)), layer)
                if low == 0:
                    own = part.own.new_empty(1, len(x.names), *part.own.shape[2:])
                    found = replace(written, shared=part.shared, own=own)
                found.own[:, low:high] = part.own
            return found

        key = ("rows", template, x.names, layer, _autocast(x))
        return self._keep(key, compute) if self.rules.frozen_layers else _without_graph(compute)

    def _run_untouched(self, x: Forward, plan: TowerPlan, template: Template) -> dict[Read | str, Tensor]:
        """What heads read of the text tower without hooks, as many classes at a time as memory allows."""
        tower, written = self.backbone.text, self._written(x, template)
        pieces = chunks(0, len(x.names), self.class_chunk)
        found = [self._run(tower, plan, _embedded(tower, written.rows(*piece)), 0, {}) for piece in pieces]
        return {read: torch.cat([tokens[read] for tokens in found], dim=1) for read in plan.reads}

    def _written(self, x: Forward, template: Template) -> Rows:
        """Token ids of a class list as rows of width 1, cut to what can matter."""
        tower = self.backbone.text
        rows = template.write(x.names, tower)
        length = int(rows.end.max()) + 1 if self.rules.truncate and tower.causal else rows.ids.shape[1]
        alike = (rows.ids == rows.ids[:1]).all(dim=0).int().cumprod(dim=0).sum()
        shared = min(int(alike), int(rows.end.min())) if self.rules.shared_prefix and tower.causal else 0
        spans = {CONTEXT_SPAN: context_span(rows.context.to(x.device))} if rows.context.numel() else {}
        return Rows.of(rows.ids[None, :, :length, None].to(x.device), rows.end.to(x.device), spans, shared)

    # -- both sides ---------------------------------------------------------------------------------------------------

    def _start(self, tower: TextTower | ImageTower, plan: TowerPlan) -> int:
        """The first block that has to run with the hooks."""
        return min(max(plan.first, 0), tower.depth - 1) if self.rules.frozen_layers else 0

    def _frozen_layers(self, tower: TextTower | ImageTower, rows: Rows, layer: int) -> Rows:
        layout = lay_out(rows, tower.causal, self.rules.pack)
        for block in tower.blocks[:layer]:
            rows = run_block(block, rows, layout, ())
        return rows

    def _run(
        self,
        tower: TextTower | ImageTower,
        plan: TowerPlan,
        rows: Rows,
        start: int,
        values: Values,
    ) -> dict[Read | str, Tensor]:
        """From frozen rows before block `start` to the tokens that heads read."""
        layout = None
        for layer in range(EMBEDDING if start == 0 else start, tower.depth):
            for injection in plan.injections:
                if layer in injection.layers:
                    rows = enter(tower, rows, injection, layer, values[injection.name, layer])
            if layer == EMBEDDING:
                continue
            if layout is None or not layout.fits(rows):
                layout = lay_out(rows, tower.causal, self.rules.pack)
            adapters = plan.adapters.get(layer, ())
            if layer == tower.depth - 1 and self.rules.read_tokens:
                return run_last_block(tower.blocks[layer], rows, layout, adapters, plan.reads)
            rows = run_block(tower.blocks[layer], rows, layout, adapters)
        return read_rows(rows, plan.reads)

    def _features(
        self, tower: TextTower | ImageTower, plan: TowerPlan, tokens: dict[Read | str, Tensor]
    ) -> dict[str, Tensor]:
        """Heads on their tokens: final norm, mean, projection."""
        normed = {read: tower.norm(t) for read, t in tokens.items()}
        return {name: _apply(head, normed[head.read], tower) for name, head in plan.heads.items()}

    def _keep(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A frozen result, computed once and kept with the few used last."""
        if key not in self._kept:
            self._kept[key] = _without_graph(compute)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _apply(head: Head, normed: Tensor, tower: TextTower | ImageTower) -> Tensor:
    pooled = normed.mean(dim=2) if head.mean else (normed[:, :, 0] if head.read is Read.CLASS else normed)
    if head.project is None:
        return tower.project(pooled)
    return pooled @ head.project if isinstance(head.project, Tensor) else head.project(pooled)


def _embedded(tower: TextTower, ids: Rows) -> Rows:
    """Rows of tokens from rows of their ids."""
    tokens = tower.embed(ids.whole()[0, :, :, 0])
    return Rows.of(tokens[None], ids.end, ids.spans, ids.prefix)


def _touched(tower: TextTower | ImageTower, plan: TowerPlan) -> bool:
    return plan.first < tower.depth


def _untouched(tower: TextTower | ImageTower) -> TowerPlan:
    return TowerPlan(tower.depth, (), {}, {CLASS_HEAD: _PLAIN_HEAD})


def _per_image(plan: TowerPlan) -> bool:
    return any(tokens.per is Per.IMAGE for i in plan.injections for tokens in i.layers.values())


def _drop(x: Tensor, dim: int) -> Tensor:
    return x.squeeze(dim) if x.shape[dim] == 1 else x


def _without_graph(compute: Callable[[], T]) -> T:
    """Compute outside autograd and outside inference mode, so that the result may enter a later graph."""
    with torch.inference_mode(False), torch.no_grad():
        return compute()


def _autocast(x: Forward) -> torch.dtype | None:
    """The reduced precision in force: kept activations are only good for the one they were computed in."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

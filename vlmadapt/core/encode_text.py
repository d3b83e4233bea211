"""Text features: class names -> token ids -> embeddings -> frozen blocks -> touched blocks -> heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlmadapt.core.backbone import TextTower
from vlmadapt.core.class_texts import ClassTexts
from vlmadapt.core.distributed import chunks, gather_classes, many_processes, shard_range, world_size
from vlmadapt.core.frozen_cache import (
    EncodedText,
    FrozenCache,
    FrozenRows,
    ReadTokens,
    TemplateText,
    WrittenTexts,
    ZeroShotText,
    autocast_precision,
    without_graph,
)
from vlmadapt.core.hooks import Per, Read, Teacher
from vlmadapt.core.injection import Injected
from vlmadapt.core.numerics import l2_normalize
from vlmadapt.core.plan import POOLED, Optimizations, Plan, TowerPlan
from vlmadapt.core.run_tower import ReadOut, first_layer, head_features, run_frozen_layers, run_tower
from vlmadapt.core.selected_rows import pooled_positions, run_selected, selected_map
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.templates import Template

Names = tuple[str, ...]

TEXTS_AT_ONCE = 2048
"""Texts that pass the tower at once where no gradient is needed: class descriptions may be tens of thousands."""


class TextEncoder:
    """Computes text features of class lists.

    Args:
        tower: frozen text tower.
        optimizations: optimisations in use.
        class_chunk: number of classes encoded at once; with gradients, the activations of each chunk are recomputed in
            the backward pass. 0 encodes all at once.
        cache: cache of activations that depend on the frozen tower alone.
    """

    def __init__(self, tower: TextTower, optimizations: Optimizations, class_chunk: int, cache: FrozenCache):
        self.tower = tower
        self.optimizations = optimizations
        self.class_chunk = class_chunk
        self.cache = cache

    def encode(self, names: Names, plan: Plan, injected: Injected, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Unnormalised features ([variants or images,] classes, [tokens,] joint) by head.

        Args:
            names: class names.
            plan: hooks of the pass.
            injected: tokens of the method.
            rows: indices (n,) on the device of the classes to encode; only these are then computed.
        """
        templates = plan.prompts
        if rows is not None:
            return self._encode_rows(names, plan, injected, rows)
        if not self.tower.blocks:
            return {POOLED: self._encoded(names, templates[0])}
        if len(templates) == 1:
            joined = self._encode_template(names, templates[0], plan, injected)
        else:
            joined = self._encode_variants(names, plan, injected)
        # Tokens read from the shared prefix are the same for every class.
        return {name: _squeeze_groups(_for_classes(f, len(names))) for name, f in joined.items()}

    def _encode_variants(self, names: Names, plan: Plan, injected: Injected) -> dict[str, Tensor]:
        """Features (variants, classes, [tokens,] joint) of several templates; equal ones are encoded together."""
        found: dict[int, dict[str, Tensor]] = {}
        for template in dict.fromkeys(plan.prompts):
            variants = [i for i, t in enumerate(plan.prompts) if t == template]
            features = self._encode_template(names, template, plan, _of_variants(injected, plan.text, variants))
            found |= {v: {name: _group(f, i) for name, f in features.items()} for i, v in enumerate(variants)}
        return {name: torch.cat([found[v][name] for v in sorted(found)]) for name in plan.text.heads}

    def _encode_rows(self, names: Names, plan: Plan, injected: Injected, rows: Tensor) -> dict[str, Tensor]:
        """Features (n, [tokens,] joint) of some classes, which are known on the device alone."""
        (template,) = plan.prompts
        touched = self.tower.blocks and plan.text.first < self.tower.depth
        # A mask for padding is made on the host, so that such a tower encodes all texts.
        if not touched or self._written(names, template, self.optimizations).map.padding is not None:
            return {name: f.index_select(0, rows) for name, f in self.encode(names, plan, injected).items()}
        found = self._encode_touched(names, template, plan, injected, rows)
        return {name: _squeeze_groups(f) for name, f in found.items()}

    def encode_zero_shot(self, names: Names, teacher: Teacher) -> Tensor:
        """Unit features (classes, joint) of the frozen tower, averaged over the teacher's templates."""

        def compute() -> Tensor:
            features = self._encode_templates(names, teacher)
            return l2_normalize((l2_normalize(features) if teacher.normalize_each else features).mean(0))

        if not self.optimizations.keep_teacher:
            return without_graph(compute)
        return self.cache.get(ZeroShotText(*self._entry(names), teacher), compute)

    def encode_templates(self, names: Names, teacher: Teacher) -> Tensor:
        """Unnormalised features (templates, classes, joint) of the frozen tower for each of the teacher's templates."""
        if not self.optimizations.keep_teacher:
            return without_graph(lambda: self._encode_templates(names, teacher))
        return self.cache.get(
            TemplateText(*self._entry(names), teacher), lambda: self._encode_templates(names, teacher)
        )

    def _encode_templates(self, names: Names, teacher: Teacher) -> Tensor:
        return torch.stack([self.encode_plain(names, template) for template in teacher.templates])

    def _encode_template(
        self, names: Names, template: Template, plan: Plan, injected: Injected
    ) -> Mapping[str, Tensor]:
        """Features of the sequences written with one template."""
        if plan.text.first < self.tower.depth:
            return self._encode_touched(names, template, plan, injected)
        tokens = self._untouched_tokens(names, template, plan.text)
        return head_features(self.tower, plan.text, ReadOut(tokens, {}))

    def _encode_touched(
        self, names: Names, template: Template, plan: Plan, injected: Injected, rows: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features of a tower with hooks, in chunks and split over processes."""
        tower, text, optimizations = self.tower, plan.text, self.optimizations.exact_for(plan.text)
        start = first_layer(tower, text, optimizations)
        if rows is None:
            x, pool = self._frozen_rows(names, template, start, optimizations), None
        else:
            x = self._selected_rows(names, template, start, rows, optimizations)
            pool = pooled_positions(self._written(names, template, optimizations).map, rows)
        count = x.map.rows
        shared_out = self._shares_classes(count, plan)
        first, last = shard_range(count) if shared_out else (0, count)

        def encode(low: int, high: int, _: Tensor | None = None) -> dict[str, Tensor]:
            piece = {key: v[:, low:high] if v.shape[1] > 1 else v for key, v in injected.items()}
            part = x.select(low, high)
            if pool is None:
                read = run_tower(tower, text, part, start, piece, optimizations)
            else:
                read = run_selected(tower, text, part, pool[low:high], start, piece, optimizations)
            features = head_features(tower, text, read)
            return {name: _for_classes(f, high - low) for name, f in features.items()}

        at_once = self.class_chunk or (0 if torch.is_grad_enabled() else TEXTS_AT_ONCE)
        pieces = chunks(first, last, at_once)
        if len(pieces) > 1 and torch.is_grad_enabled():
            # Dropout draws the same again: `checkpoint` keeps the random state of the devices it is given tensors of.
            # A state cannot be read in a capture; there the comparison with an eager step finds what draws.
            keep = not (x.suffix.is_cuda and torch.cuda.is_current_stream_capturing())
            found = [
                checkpoint(encode, low, high, x.suffix, use_reentrant=False, preserve_rng_state=keep)
                for low, high in pieces
            ]
        else:
            found = [encode(low, high) for low, high in pieces]
        features = {name: torch.cat([f[name] for f in found], dim=1) for name in text.heads}
        return {name: gather_classes(f, count) for name, f in features.items()} if shared_out else features

    def _shares_classes(self, count: int, plan: Plan) -> bool:
        """Whether each process encodes a shard of the classes and the features are then gathered."""
        return (
            self.optimizations.share_classes
            and torch.is_grad_enabled()
            and many_processes()
            and count >= world_size()
            and not plan.text_differs_by_image
        )

    def encode_plain(self, names: Names, template: Template) -> Tensor:
        """Unnormalised features (classes, joint) of the frozen tower."""
        if not self.tower.blocks:
            return self._encoded(names, template)
        untouched = TowerPlan.untouched(self.tower)
        tokens = self._run_untouched(names, template, untouched)
        return head_features(self.tower, untouched, ReadOut(tokens, {}))[POOLED][0]

    def _untouched_tokens(self, names: Names, template: Template, plan: TowerPlan) -> Mapping[Read | str, Tensor]:
        """Output tokens of a text tower without hooks, as its heads read them."""

        def compute() -> Mapping[Read | str, Tensor]:
            return self._run_untouched(names, template, plan)

        if not self.optimizations.frozen_layers:
            return without_graph(compute)
        return self.cache.get(ReadTokens(*self._entry(names), template, plan.reads), compute)

    def _run_untouched(self, names: Names, template: Template, plan: TowerPlan) -> Mapping[Read | str, Tensor]:
        """Output tokens of the tower without hooks, `class_chunk` classes at a time."""
        texts = self._written(names, template, self.optimizations)
        at_once = self.class_chunk or TEXTS_AT_ONCE
        pieces = [texts.embed(self.tower, low, high) for low, high in chunks(0, len(names), at_once)]
        found = [run_tower(self.tower, plan, x, 0, {}, self.optimizations).tokens for x in pieces]
        return {read: torch.cat([tokens[read] for tokens in found], dim=1) for read in plan.reads}

    def _frozen_rows(self, names: Names, template: Template, layer: int, optimizations: Optimizations) -> Sequences:
        """Token sequences of a class list before block `layer`."""
        texts = self._written(names, template, optimizations)

        def compute() -> Sequences:
            prefix, suffix = None, None
            for low, high in chunks(0, len(names), self.class_chunk or TEXTS_AT_ONCE):
                x = run_frozen_layers(self.tower, texts.embed(self.tower, low, high), layer, optimizations)
                if prefix is None or suffix is None:
                    prefix, suffix = x.prefix, x.suffix.new_empty(1, len(names), *x.suffix.shape[2:])
                suffix[:, low:high] = x.suffix
            assert prefix is not None and suffix is not None
            return Sequences(prefix, suffix, texts.map)

        if not optimizations.frozen_layers:
            return without_graph(compute)
        return self.cache.get(FrozenRows(*self._entry(names), template, layer, optimizations), compute)

    def _selected_rows(
        self, names: Names, template: Template, layer: int, rows: Tensor, optimizations: Optimizations
    ) -> Sequences:
        """Token sequences before block `layer` of some rows (n,) of a class list.

        They are taken from those of the whole list, where these are not too large to be kept.
        """
        texts = self._written(names, template, optimizations)
        token_map = selected_map(texts.map, len(rows))
        size = len(names) * texts.map.length * self.tower.width * 4  # bytes, at most
        if optimizations.frozen_layers and size <= self.cache.max_bytes:
            kept = self._frozen_rows(names, template, layer, optimizations)
            return Sequences(kept.prefix, kept.suffix.index_select(1, rows), token_map)

        def compute() -> Sequences:
            tokens = self.tower.embed(texts.ids.index_select(0, rows))[None]
            return run_frozen_layers(self.tower, Sequences.of(tokens, token_map), layer, optimizations)

        return without_graph(compute)

    def _encoded(self, names: Names, template: Template) -> Tensor:
        """Features (classes, joint) by open_clip's own forward, for towers without `blocks`."""

        def compute() -> Tensor:
            ids = template.write(names, self.tower).ids.to(self.tower.device)
            at_once = self.class_chunk or TEXTS_AT_ONCE
            return torch.cat([self.tower.encode(ids[low:high]) for low, high in chunks(0, len(ids), at_once)])

        return self.cache.get(EncodedText(*self._entry(names), template), compute)

    def _written(self, names: Names, template: Template, optimizations: Optimizations) -> ClassTexts:
        """Token ids of a class list, cached with their index tensors."""
        entry = WrittenTexts(names, self.tower.device, None, template, optimizations)
        return self.cache.get(entry, lambda: ClassTexts.write(template, names, self.tower, optimizations))

    def _entry(self, names: Names) -> tuple[Names, torch.device, torch.dtype | None]:
        device = self.tower.device
        return names, device, autocast_precision(device)


def _of_variants(injected: Injected, plan: TowerPlan, variants: Sequence[int]) -> Injected:
    """Injected tokens, those per variant restricted to some variants."""
    by_variant = {
        (injection.name, layer)
        for injection in plan.injections
        for layer, tokens in injection.layers.items()
        if tokens.per is Per.VARIANT
    }
    return {key: _take(v, variants) if key in by_variant else v for key, v in injected.items()}


def _take(values: Tensor, groups: Sequence[int]) -> Tensor:
    """Some groups of (G, ...), without an index tensor, which would be copied to the device at each step."""
    if list(groups) == list(range(groups[0], groups[0] + len(groups))):
        return values[groups[0] : groups[0] + len(groups)]
    return torch.cat([values[i : i + 1] for i in groups])


def _group(features: Tensor, i: int) -> Tensor:
    """Group i of (G, ...), or the only group."""
    return features if features.shape[0] == 1 else features[i : i + 1]


def _for_classes(features: Tensor, classes: int) -> Tensor:
    """Features (G, 1 or classes, ...) expanded to all classes."""
    return features.expand(features.shape[0], classes, *features.shape[2:])


def _squeeze_groups(features: Tensor) -> Tensor:
    return features.squeeze(0) if features.shape[0] == 1 else features

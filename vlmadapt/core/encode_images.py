"""Image features: images -> patches -> frozen blocks -> touched blocks -> heads."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.backbone import ImageTower
from vlmadapt.core.frozen_cache import without_graph
from vlmadapt.core.injection import Injected
from vlmadapt.core.plan import POOLED, Optimizations, TowerPlan
from vlmadapt.core.run_tower import first_layer, head_features, run_frozen_layers, run_tower
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import image_map


class FrozenImages:
    """A batch of images and its frozen activations, each computed at most once for all passes over the batch.

    Attributes:
        pixels: (B, 3, H, W).
    """

    def __init__(self, pixels: Tensor):
        self.pixels = pixels
        self._rows: dict[int, Sequences] = {}
        self._encoded: Tensor | None = None

    def rows(self, tower: ImageTower, layer: int, optimizations: Optimizations) -> Sequences:
        """Token sequences (B, 1, tokens, width) before block `layer`."""

        def compute() -> Sequences:
            tokens = tower.embed(self.pixels)[:, None]
            x = Sequences.of(tokens, image_map(tokens.shape[2], tower.leading, tower.pooled))
            return run_frozen_layers(tower, x, layer, optimizations)

        if not optimizations.frozen_layers:
            return without_graph(compute)
        if layer not in self._rows:
            self._rows[layer] = without_graph(compute)
        return self._rows[layer]

    def encoded(self, tower: ImageTower) -> Tensor:
        """Features (B, joint) by the model's own forward, of a tower that can only be asked for its output."""
        if self._encoded is None:
            self._encoded = without_graph(lambda: tower.encode(self.pixels))
        return self._encoded


class ImageEncoder:
    """Computes unnormalised image features.

    Args:
        tower: frozen.
        optimizations: what may be left out.
    """

    def __init__(self, tower: ImageTower, optimizations: Optimizations):
        self.tower = tower
        self.optimizations = optimizations

    def encode(self, images: FrozenImages, plan: TowerPlan, injected: Injected) -> dict[str, Tensor]:
        """Features (B, [passes,] [tokens,] joint) by head."""
        tower = self.tower
        if not tower.blocks:
            return {POOLED: images.encoded(tower)}
        start = first_layer(tower, plan, self.optimizations)
        with torch.set_grad_enabled(plan.first < tower.depth and torch.is_grad_enabled()):
            x = images.rows(tower, start, self.optimizations)
            tokens = run_tower(tower, plan, x, start, injected, self.optimizations)
        return {name: _squeeze_passes(f) for name, f in head_features(tower, plan, tokens).items()}

    def encode_zero_shot(self, images: FrozenImages, plan: TowerPlan) -> Tensor:
        """Features (B, joint) of the frozen tower, which share the blocks below the first that `plan` touches."""
        tower = self.tower
        if not tower.blocks:
            return images.encoded(tower)
        start, untouched = first_layer(tower, plan, self.optimizations), TowerPlan.untouched(tower)
        with torch.no_grad():
            x = images.rows(tower, start, self.optimizations)
            tokens = run_tower(tower, untouched, x, start, {}, self.optimizations)
            return _squeeze_passes(head_features(tower, untouched, tokens)[POOLED])


def _squeeze_passes(features: Tensor) -> Tensor:
    return features.squeeze(1) if features.shape[1] == 1 else features

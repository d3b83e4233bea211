"""Image features: images -> patches -> frozen blocks -> touched blocks -> heads."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.backbone import ImageTower
from vlmadapt.core.frozen_cache import without_graph
from vlmadapt.core.hooks import Read
from vlmadapt.core.injection import Injected
from vlmadapt.core.patch_path import PatchPath
from vlmadapt.core.plan import POOLED, Optimizations, TowerPlan
from vlmadapt.core.run_tower import ReadOut, first_layer, head_features, run_frozen_layers, run_tower
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.token_map import image_map


class FrozenImages:
    """A batch of images and its frozen activations, each computed at most once for all forward passes of the batch.

    Args:
        pixels: (B, 3, H, W).
        output: what the untouched tower gives for them, see `output`, where that is known already.
        path: what the patches are led along; the frozen tower's features then have gradients too.
    """

    def __init__(self, pixels: Tensor | None, output: Tensor | None = None, path: PatchPath | None = None):
        self.path = path
        self._pixels = pixels
        self._rows: dict[int, Sequences] = {}
        self._output = output

    @classmethod
    def of_output(cls, output: Tensor) -> FrozenImages:
        """Images of which only the output of the untouched tower is left."""
        return cls(None, output)

    @property
    def pixels(self) -> Tensor:
        """(B, 3, H, W).

        Raises:
            ValueError: only the tower's output is left of these images.
        """
        if self._pixels is None:
            raise ValueError("these images passed the frozen tower before training; use --train.views 0 for pixels.")
        return self._pixels

    @property
    def device(self) -> torch.device:
        """Where they are."""
        known = self._output if self._pixels is None else self._pixels
        assert known is not None
        return known.device

    def select(self, keep: Tensor) -> FrozenImages:
        """Some of the images, by index."""
        if self._pixels is None:
            return FrozenImages(None, None if self._output is None else self._output[keep])
        return FrozenImages(self._pixels[keep], path=self.path)

    def first_layer(self, tower: ImageTower, plan: TowerPlan, optimizations: Optimizations) -> int:
        """The first block that has to run with the hooks or on a path."""
        first = first_layer(tower, plan, optimizations)
        return first if self.path is None else min(first, self.path.layer)

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

    def output(self, tower: ImageTower, optimizations: Optimizations) -> Tensor:
        """What the untouched tower gives: the tokens (B, n, width) that it pools, before the final norm.

        Of a tower that can only be asked for its output, features (B, joint) by the model's own forward.
        """

        def compute() -> Tensor:
            if not tower.blocks:
                return tower.encode(self.pixels)
            untouched = TowerPlan.untouched(tower)
            start = self.first_layer(tower, untouched, optimizations)
            x = self.rows(tower, start, optimizations)
            read = run_tower(tower, untouched, x, start, {}, optimizations, self.path)
            return read.tokens[Read.POOLED][:, 0]

        if self._output is not None:
            return self._output
        found = without_graph(compute) if self.path is None else compute()
        if optimizations.frozen_layers or not tower.blocks:
            self._output = found
        return found


class ImageEncoder:
    """Computes unnormalised image features.

    Args:
        tower: frozen image tower.
        optimizations: optimisations in use.
    """

    def __init__(self, tower: ImageTower, optimizations: Optimizations):
        self.tower = tower
        self.optimizations = optimizations

    def encode(self, images: FrozenImages, plan: TowerPlan, injected: Injected) -> dict[str, Tensor]:
        """Features (B, [passes,] [tokens,] joint) by head."""
        tower = self.tower
        if not tower.blocks:
            return {POOLED: images.output(tower, self.optimizations)}
        if plan.leaves_untouched(tower):
            return self._of_output(images, plan)
        start, path = images.first_layer(tower, plan, self.optimizations), images.path
        with torch.set_grad_enabled((plan.first < tower.depth or path is not None) and torch.is_grad_enabled()):
            x = images.rows(tower, start, self.optimizations)
            tokens = run_tower(tower, plan, x, start, injected, self.optimizations, path)
        return {name: _squeeze_passes(f) for name, f in head_features(tower, plan, tokens).items()}

    def encode_zero_shot(self, images: FrozenImages, plan: TowerPlan) -> Tensor:
        """Features (B, joint) of the frozen tower; shares the blocks below the first that `plan` touches."""
        tower = self.tower
        if not tower.blocks:
            return images.output(tower, self.optimizations)
        start, untouched = images.first_layer(tower, plan, self.optimizations), TowerPlan.untouched(tower)
        with torch.set_grad_enabled(images.path is not None and torch.is_grad_enabled()):
            if plan.leaves_untouched(tower):
                return self._of_output(images, untouched)[POOLED]
            x = images.rows(tower, start, self.optimizations)
            tokens = run_tower(tower, untouched, x, start, {}, self.optimizations, images.path)
            return _squeeze_passes(head_features(tower, untouched, tokens)[POOLED])

    def _of_output(self, images: FrozenImages, plan: TowerPlan) -> dict[str, Tensor]:
        """Features (B, joint) of heads that read the pooled token of the untouched tower."""
        read = ReadOut({Read.POOLED: images.output(self.tower, self.optimizations)[:, None]}, {})
        return {name: f[:, 0] for name, f in head_features(self.tower, plan, read).items()}


def _squeeze_passes(features: Tensor) -> Tensor:
    return features.squeeze(1) if features.shape[1] == 1 else features

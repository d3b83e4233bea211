"""Tip-Adapter-F (Zhang et al., ECCV 2022)."""

from __future__ import annotations

from torch import nn

from vlmadapt.plugin import Backbone, Recipe, Support, Task
from vlmadapt_adapters.tip_adapter import TipAdapter


class TipAdapterF(TipAdapter):
    """Tip-Adapter with fine-tuned keys.

    The keys are initialised with the cache and trained with the cross entropy of the scores, with alpha and beta at
    their initial values; they are not normalised again. After training, alpha and beta are searched as in Tip-Adapter.
    Official code (gaopengcuhk/Tip-Adapter) keeps the epoch that is best on the test images, and reports the better of
    it and the result of the search; here it is the last epoch, and the search uses validation images.
    """

    recipe = Recipe(
        optimizer="adamw",
        lr=1e-3,
        eps=1e-4,
        epochs=20,
        batch_size=256,
        weight_decay=1e-2,
        schedule="cosine-step",
        warmup_epochs=0,
        crop_scale=(0.5, 1.0),
    )

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create an empty cache with trainable keys."""
        super().build(backbone, task)
        empty = self.keys
        del self.keys
        self.keys = nn.Parameter(empty)

    def prepare(self, support: Support) -> None:
        """Fill the cache; alpha and beta keep their initial values while the keys are trained."""
        self.fill(support)

    def finish(self, support: Support) -> None:
        """Search alpha and beta for the trained keys."""
        self.search(support)

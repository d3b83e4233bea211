"""Engine: both encoders of a frozen backbone and the caches between forward passes.

With all optimisations off it is the reference: every layer and every token, as in the papers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.precision import autocast
from vlmadapt.core.encode_images import ImageEncoder
from vlmadapt.core.encode_text import TextEncoder
from vlmadapt.core.frozen_cache import FrozenCache
from vlmadapt.core.kept_text import KeptText
from vlmadapt.core.plan import Optimizations


class Engine:
    """Both encoders of a backbone.

    Args:
        backbone: frozen backbone.
        optimizations: optimisations in use; all of them by default.
        class_chunk: number of classes encoded at once; 0 encodes all.
        precision: float16 or bfloat16 to run the towers in; None for that of the weights or of an active autocast.

    Attributes:
        image: image encoder.
        text: text encoder.
        frozen: cache of activations that depend on the backbone alone, by class list.
        kept_text: text features of the last class list, valid while the method does not change.
    """

    def __init__(
        self,
        backbone: Backbone,
        optimizations: Optimizations | None = None,
        class_chunk: int = 0,
        precision: torch.dtype | None = None,
    ):
        self.backbone = backbone
        self.precision = precision
        self.optimizations = optimizations or Optimizations()
        self.frozen = FrozenCache()
        self.kept_text = KeptText()
        self.image = ImageEncoder(backbone.image, self.optimizations)
        self.text = TextEncoder(backbone.text, self.optimizations, class_chunk, self.frozen)

    def autocast(self) -> AbstractContextManager[None]:
        """Autocast to the precision that the towers run in."""
        return autocast(self.backbone.device, self.precision)

    def clear(self) -> None:
        """Empty both caches."""
        self.frozen.clear()
        self.kept_text.clear()

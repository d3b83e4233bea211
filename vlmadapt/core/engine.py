"""A frozen backbone, ready to be run with a method's hooks, with what it keeps between passes.

With all optimisations off this is the reference: every layer, every token, as the papers write it.
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
        backbone: frozen.
        optimizations: what may be left out because it cannot change a result; all of it by default.
        class_chunk: classes that go through the text tower at once; 0 takes all.
        precision: float16 or bfloat16 to run the towers in; None for that of the weights and of any autocast in force.

    Attributes:
        image: images -> features.
        text: class names -> features.
        frozen: activations that the backbone alone decides, by class list.
        kept_text: features of the last class list, kept while the method does not change.
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
        """The precision that the towers run in."""
        return autocast(self.backbone.device, self.precision)

    def clear(self) -> None:
        """Drop everything that is kept."""
        self.frozen.clear()
        self.kept_text.clear()

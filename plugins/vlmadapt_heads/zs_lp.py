"""ZS-LP (Silva-Rodríguez et al., CVPR 2024): a linear probe that starts as the zero-shot classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmadapt.plugin import Recipe, Support, assign
from vlmadapt_heads.prototypes import PrototypeHead, first_batch, text_prototypes


@dataclass
class ZSLPConfig:
    """ZS-LP has no options."""


class ZSLP(PrototypeHead):
    """A linear probe on frozen features, initialised with the zero-shot classifier.

    With f the image feature, p_c the prototype of class c, n unit norm and s CLIP's scale:

        z_c = s n(f) . n(p_c),    p_c starts as the mean over templates of the unnormalised text features

    and the cross entropy of z trains p. The length of p_c plays no part in z, but sets how far a step turns it, so a
    normalised start is another method at the same learning rate. Official code (jusiro/CLAP, `INIT ZS`, `CONSTRAINT
    none`) caches features of 20 augmented views of each image and draws batches of 256 from all of them at once; here
    an epoch shows each image in one of the 20 views. Official class names keep their underscores; here they become
    spaces.
    """

    Config: ClassVar[type[Any]] = ZSLPConfig
    api_version = 2
    recipe = Recipe(lr=0.1, epochs=300, batch_size=256, weight_decay=0.0, views=20)
    paper = "Silva-Rodríguez et al., A Closer Look at the Few-Shot Adaptation of Large VLMs, CVPR 2024"

    def prepare(self, support: Support) -> None:
        """Set the prototypes to the text features."""
        assign(self.prototypes, text_prototypes(first_batch(support)))

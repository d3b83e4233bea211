"""Zero-shot CLIP (Radford et al., ICML 2021)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from vlmadapt.plugin import ForwardPass, Hook, Method, Recipe, Role, teacher

# The seven templates that CLIP's authors selected by forward search on ImageNet, in the order of their release.
SELECTED = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@dataclass
class ZeroShotConfig:
    """Options of zero-shot CLIP.

    Args:
        ensemble: average the unit text features of CLIP's seven selected templates and of the data set's template,
            instead of using the data set's template alone.
        own_template: include the data set's template in the ensemble; the published code leaves it out on ImageNet.
    """

    ensemble: bool = False
    own_template: bool = True


class ZeroShotCLIP(Method):
    """Zero-shot CLIP: class names in a hand-written template, without training.

    `z_i = s n(f) . n(w_i)` with text feature `w_i`, image feature `f`, unit norm `n` and CLIP's scale `s`. The ensemble
    normalises each template's feature, averages, and normalises again.
    """

    Config = ZeroShotConfig
    api_version = 2
    recipe = Recipe(epochs=0)
    paper = "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021"
    touches = ()
    learns = False

    def hooks(self) -> Iterable[Hook]:
        """The templates of the zero-shot text features."""
        if self.config.ensemble:
            yield teacher(*SELECTED, with_dataset_templates=self.config.own_template)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Zero-shot logits, for seen and unseen classes alike."""
        return fwd.zero_shot.logits

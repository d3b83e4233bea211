"""Base class of linear heads: a trained vector per class, compared with image features by cosine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, ForwardPass, Support, SupportMethod, Task, similarity


class PrototypeHead(SupportMethod):
    """A vector p_c for each class; with f the image feature, n unit norm and s CLIP's scale, z_c = s n(f) . n(p_c)."""

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the prototypes (classes, joint), which `prepare` sets."""
        self.prototypes = nn.Parameter(torch.zeros(len(task.classes), backbone.image.joint))

    def fitted(self) -> int:
        """Number of prototypes."""
        return len(self.prototypes)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Scaled cosines (B, classes) with the prototypes."""
        return self.logits(fwd.image(), self.prototypes, fwd.scale)

    @staticmethod
    def logits(image: Tensor, prototypes: Tensor, scale: Tensor) -> Tensor:
        """scale * cosine of unit image features (B, joint) with prototypes (classes, joint)."""
        return scale * similarity(image, F.normalize(prototypes.float(), dim=-1))


def first_batch(support: Support) -> ForwardPass:
    """The first batch of training images, for what depends on the classes alone."""
    return next(next(support.epochs(augmented=True)))


def text_prototypes(fwd: ForwardPass) -> Tensor:
    """Mean (classes, joint) of each class's unnormalised text features over the templates."""
    return fwd.zero_shot.template_features.float().mean(dim=0)


def unit_text_prototypes(fwd: ForwardPass) -> Tensor:
    """Mean (classes, joint) of each class's unit text features over the templates, not normalised again."""
    return F.normalize(fwd.zero_shot.template_features.float(), dim=-1).mean(dim=0)

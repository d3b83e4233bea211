"""TaskRes (Yu et al., CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, ForwardPass, Recipe, SupportMethod, Task
from vlmadapt_heads.prototypes import PrototypeHead, text_prototypes


@dataclass
class TaskResConfig:
    """Options of TaskRes.

    Args:
        alpha: weight of the residual; 1 for Flowers102 in the paper.
    """

    alpha: float = 0.5


class TaskRes(SupportMethod):
    """A trained residual for each class, added to its frozen text feature.

    With f the image feature, t_c the mean over templates of class c's unnormalised text features, r_c the residual,
    which starts at 0, n unit norm and s CLIP's scale:

        z_c = s n(f) . n(t_c + alpha r_c)

    Official code (geekyutao/TaskRes) augments images differently in every epoch; here there are 20 views of each
    image, as in the code of CLAP (jusiro/CLAP, `INIT TR`). The paper's enhanced base, a text projection trained
    beforehand, is not implemented.
    """

    Config = TaskResConfig
    api_version = 2
    recipe = Recipe(optimizer="adam", lr=2e-3, epochs=200, batch_size=256, views=20)
    paper = "Yu et al., Task Residual for Tuning Vision-Language Models, CVPR 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the residuals (classes, joint), initialised to zero."""
        self.residual = nn.Parameter(torch.zeros(len(task.classes), backbone.image.joint))

    def fitted(self) -> int:
        """Number of residuals."""
        return len(self.residual)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Scaled cosines (B, classes) with text features plus residuals."""
        return PrototypeHead.logits(fwd.image(), text_prototypes(fwd) + self.config.alpha * self.residual, fwd.scale)

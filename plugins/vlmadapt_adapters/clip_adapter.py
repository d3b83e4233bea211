"""CLIP-Adapter (Gao et al., IJCV 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, DataError, ForwardPass, LossTerm, Method, Recipe, Role, Task, similarity


@dataclass
class CLIPAdapterConfig:
    """Options of CLIP-Adapter.

    Args:
        reduction: joint width divided by the width of the bottleneck.
        ratio: weight r of the adapted image feature, 1 - r is that of CLIP's own; the paper chooses it per data set.
        text_ratio: the same for text features, which have their own adapter; 0 for none, as in the published code.
    """

    reduction: int = 4
    ratio: float = 0.2
    text_ratio: float = 0.0


class FeatureAdapter(nn.Module):
    """A bottleneck without biases, blended with its input: `r relu(W2 relu(W1 f)) + (1 - r) f`."""

    def __init__(self, width: int, reduction: int, ratio: float):
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(width, width // reduction, bias=False)
        self.up = nn.Linear(width // reduction, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Unit features (N, width) -> unit features (N, width)."""
        adapted = F.relu(self.up(F.relu(self.down(features))))
        return F.normalize((self.ratio * adapted + (1 - self.ratio) * features).float(), dim=-1)


class CLIPAdapter(Method):
    """A bottleneck on the frozen image feature, blended with the feature itself.

    With f the image feature, w_i the text feature of class i, n unit norm and s CLIP's scale:

        f' = r relu(W2 relu(W1 f)) + (1 - r) f,    z_i = s n(f') . n(w_i)

    The bottleneck has no biases, so it makes no difference that official code (gaopengcuhk/CLIP-Adapter) blends
    features before they are normalised. The paper also adapts text features in the same way; the code does not, see
    `text_ratio`. The repository is a file for CoOp's code base, to be run with CoOp's commands and settings, which are
    the defaults here; the paper states a learning rate of 1e-5.
    """

    Config = CLIPAdapterConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=32)
    paper = "Gao et al., CLIP-Adapter: Better Vision-Language Models with Feature Adapters, IJCV 2024"
    touches = ()

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the image adapter, and with `text_ratio` the text adapter."""
        c, width = self.config, backbone.image.joint
        if not 1 <= c.reduction <= width:
            raise DataError(f"the reduction must lie between 1 and the joint width {width}, it is {c.reduction}.")
        self.image = FeatureAdapter(width, c.reduction, c.ratio)
        if c.text_ratio:
            self.text = FeatureAdapter(width, c.reduction, c.text_ratio)

    def logits(self, fwd: ForwardPass) -> Tensor:
        """scale * cosine of adapted features, (B, classes)."""
        text = self.text(fwd.text()) if self.config.text_ratio else fwd.text()
        return fwd.scale * similarity(self.image(fwd.image()), text)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.logits(fwd), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The logits, for seen and unseen classes alike."""
        return self.logits(fwd)

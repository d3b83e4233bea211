"""MMA++ (Yang et al., TPAMI 2026)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    BLOCK,
    IMAGE,
    TEXT,
    Backbone,
    Descriptions,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Task,
    adapt,
    similarity,
    zero_based,
)

TEMPLATES = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


@dataclass
class MMAppConfig:
    """Options of MMA++.

    Args:
        texts: texts of a class: CLIP's 80 ImageNet templates, or its descriptions (`--descriptions`).
        layers: adapted blocks of both towers, counted from 1.
        width: width r of the bottleneck that both towers share.
        scale: weight a of the branch in training.
        test_scale: weight of the branch in prediction.
        weight: weight of the agreement with the same features at a random, smaller scale.
        dropout: dropout in the bottleneck; published 0.2 with templates and 0.1 with descriptions.
    """

    texts: Literal["templates", "descriptions"] = "templates"
    layers: list[int] = field(default_factory=lambda: [5, 6, 7, 8, 9, 10, 11, 12])
    width: int = 32
    scale: float = 0.01
    test_scale: float = 0.0065
    weight: float = 2.5
    dropout: float = 0.2


class MMApp(Method):
    """MMA's adapters, trained to agree at every scale and tested at a smaller one, with several texts per class.

    With x the input of a block, ln its first norm, and linear maps with bias, D and U per tower and S for both:

        out = block(x) + a U relu(S relu(D ln(x)))

    A training step draws one text t_c for each class and a number u from U(0, 1). With f and w the unit features of
    image and text at scale a, and f', w' those at scale u a without gradient,

        loss = CE(s f . w) - weight (mean_b f_b . f'_b + mean_c w_c . w'_c)

    Predictions use the scale `test_scale` in both towers; a class's weight is the mean of its texts' unit features,
    normalised again.

    Official code (ZjjConan/VLM-MMApp) trains with mixed precision alone, its branch for other precisions cannot run.
    Its first evaluation overwrites the training scale for good, and it keeps the text features that it tested first,
    so that it must not be tested during training; here the scale follows the mode. It needs equally many descriptions
    for every class and draws on the host; here their number may differ, and they are drawn on the device. Gradients are
    not scaled any more, unlike in MMA. Weights start Kaiming-normal with PyTorch's own biases: the branch is small at
    the start, not zero. Dropout draws again for the features at the random scale.
    """

    Config = MMAppConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=0.3, epochs=50, batch_size=16, warmup_epochs=0)
    paper = "Yang et al., MMA++: Effective Multi-Modal Adaptation for Vision-Language Models, TPAMI 2026"

    @classmethod
    def track_for(cls, config: MMAppConfig) -> str:
        """Another one with descriptions than with templates."""
        return "descriptions" if config.texts == "descriptions" else cls.track

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the maps of each tower and the shared ones, keyed by block counted from 1."""
        c = self.config
        names = [str(index + 1) for index in zero_based(c.layers)]
        for side in (TEXT, IMAGE):
            width = backbone.tower(side).width
            down = nn.ModuleDict({name: linear(width, c.width) for name in names})
            up = nn.ModuleDict({name: linear(c.width, width) for name in names})
            self.register_module(side.value, nn.ModuleDict({"down": down, "up": up}))
        self.shared = nn.ModuleDict({name: linear(c.width, c.width) for name in names})
        self.dropout = nn.Dropout(c.dropout)

    @property
    def reads_descriptions(self) -> bool:
        """Whether classes have to be described."""
        return self.config.texts == "descriptions"

    def hooks(self) -> list[Hook]:
        """The branches on the blocks of both towers, at the scale of the mode."""
        return self.branches(self.config.scale if self.training else self.config.test_scale)

    def branches(self, scale: float | Tensor) -> list[Hook]:
        """The branches at a scale."""
        sides = (TEXT, IMAGE)
        return [
            adapt(s, int(n) - 1, partial(self.branch, s.value, n, scale), BLOCK) for s in sides for n in self.shared
        ]

    def branch(self, tower: str, block: str, scale: float | Tensor, x: Tensor) -> Tensor:
        """Normed block input (..., width) -> term added to the block's output (..., width)."""
        down, up = (self.get_submodule(f"{tower}.{name}.{block}") for name in ("down", "up"))
        out: Tensor = up(self.dropout(F.relu(self.shared[block](F.relu(down(x))))))
        return out * scale

    def texts(self, fwd: ForwardPass) -> Descriptions:
        """All texts of the classes."""
        return fwd.descriptions if self.reads_descriptions else Descriptions.from_templates(TEMPLATES, fwd.names)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy with one text per class, and the agreement with features at a random scale."""
        texts, weight = self.texts(fwd), self.config.weight
        drawn = self.draw(texts, fwd.device)
        text = fwd.sentences(texts, drawn).text()
        logits = fwd.once("logits", lambda: fwd.scale * similarity(fwd.image(), text))
        yield LossTerm("ce", 1.0, F.cross_entropy(logits, fwd.labels))
        with torch.no_grad():
            smaller = fwd.other(hooks=self.branches(self.draw_fraction(fwd.device) * self.config.scale))
            text_at, image_at = smaller.sentences(texts, drawn).text(), smaller.image()
        yield LossTerm("text", -weight, F.cosine_similarity(text, text_at, dim=-1).mean())
        yield LossTerm("image", -weight, F.cosine_similarity(fwd.image(), image_at, dim=-1).mean())

    def draw(self, texts: Descriptions, device: torch.device) -> Tensor:
        """Indices (classes,) of this step's texts."""
        return texts.draw(device)

    def draw_fraction(self, device: torch.device) -> Tensor:
        """This step's random scale as a fraction of the training scale, a scalar."""
        return torch.rand((), device=device)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Logits with the mean over all texts of each class; in a training step, those of the loss."""
        return fwd.once("logits", lambda: fwd.scale * similarity(fwd.image(), self.mean_text(fwd)))

    def mean_text(self, fwd: ForwardPass) -> Tensor:
        """Unit mean (classes, joint) of the unit features of each class's texts."""
        texts = self.texts(fwd)
        return F.normalize(texts.mean(fwd.sentences(texts).text()), dim=-1)


def linear(source: int, target: int) -> nn.Linear:
    """A linear map with the official initialisation."""
    module = nn.Linear(source, target)
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return module

"""LwEIB (Yang et al., IJCV 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    HIDDEN,
    IMAGE,
    NORM1,
    PATCHES,
    ROW,
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

SITES = {"attention": NORM1, "mlp": HIDDEN}


@dataclass
class LwEIBConfig:
    """Options of LwEIB.

    Args:
        words: written before class name and description, as in "a photo of a NAME, DESCRIPTION".
        layers: adapted blocks of both towers, counted from 1.
        scale: weight a of the convolutions.
        fast: how many times larger the weight is in the fast state of a block.
        slow_share: how often a block is in its slow state during training.
        negatives: where a batch has fewer images than there are classes, how many other classes a step scores for each
            class of its images; -1 scores all classes.
    """

    words: str = "a photo of a"
    layers: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    scale: float = 0.025
    fast: float = 2.5
    slow_share: float = 0.8
    negatives: int = 7


class LwEIB(Method):
    """Depth-wise convolutions over the words of a text and the patches of an image, with class descriptions.

    Each adapted block has two convolutions K of width 3 with a filter for each channel: over the row of tokens in the
    text tower, over the grid of patches in the image tower, where CLS is left out. With ln the block's norms, A the
    first linear map of its MLP, g the rest of the MLP and k = a (or in training, with probability 1 - slow_share for
    each block of each tower, k = a `fast`):

        h = ln1(x),   x = x + attention(h + k K1 h)
        u = A ln2(x), x = x + g(u + k K2 u)

    The gradient of a filter is taken as if k were 1; what goes on to the tokens is the true gradient. A training step
    draws one description d_c for each class, and with w_c the unit feature of "a photo of a NAME, d_c" its loss is
    CE(s f . w), over the classes of the batch and `negatives` times as many others. Predictions take for w_c the mean
    over all descriptions, normalised again.

    The convolution over a text sees the token after each one, so that the padding after a text matters: the text tower
    computes its whole context. In the last image block K2 would change patches that nothing reads where CLS alone is
    pooled; official code (ZjjConan/VLM-LwEIB) has these filters and never trains them, here they are left out.

    Official code needs equally many descriptions for every class, cuts texts that are too long, and keeps the text
    features that it tested first; here their number may differ, such a text is refused, and features are those of the
    current filters. It draws on the host, and the number of classes differs from step to step; here everything is drawn
    on the device, and classes beyond that number are masked out.
    """

    Config = LwEIBConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(optimizer="sgd", lr=0.28, epochs=25, batch_size=16, warmup_epochs=0)
    paper = "Yang et al., Learning with Enriched Inductive Biases for Vision-Language Models, IJCV 2025"
    whole_batch = True  # which classes a step scores depends on all labels

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the convolutions of each tower, keyed by block counted from 1."""
        for side, dimensions in ((TEXT, 1), (IMAGE, 2)):
            tower, blocks = backbone.tower(side), nn.ModuleDict()
            for layer in zero_based(self.config.layers):
                own = {"attention": Convolution(tower.width, dimensions)}
                if side is TEXT or layer < tower.depth - 1 or tower.pooled:
                    own["mlp"] = Convolution(tower.hidden_width(layer), dimensions)
                blocks[str(layer + 1)] = nn.ModuleDict(own)
            self.register_module(side.value, blocks)

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def hooks(self) -> Iterable[Hook]:
        """The convolutions before the attention and inside the MLP of the adapted blocks."""
        count = len(self.config.layers)
        scales = self.draw_scales(count) if self.training else torch.full((2, count), self.config.scale)
        for side, mixes, own in zip((TEXT, IMAGE), (ROW, PATCHES), scales.unbind(), strict=True):
            blocks = self.get_submodule(side.value).named_children()
            for (name, block), scale in zip(blocks, own.unbind(), strict=True):
                for part, convolution in block.named_children():
                    yield adapt(side, int(name) - 1, partial(convolution, scale), SITES[part], mixes=mixes)

    def draw_scales(self, blocks: int) -> Tensor:
        """This step's weight (2, blocks) of the convolutions, text tower first."""
        c = self.config
        fast = torch.rand(2, blocks, device=next(self.parameters()).device) > c.slow_share
        return torch.where(fast, c.scale * c.fast, c.scale)

    def texts(self, fwd: ForwardPass) -> Descriptions:
        """All texts of the classes."""
        return fwd.descriptions.after(f"{self.config.words} {{}}, ", fwd.names)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy over the classes of this step, with one text for each."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.once("logits", lambda: self.training_logits(fwd)), fwd.labels))

    def training_logits(self, fwd: ForwardPass) -> Tensor:
        """Logits (B, classes), -inf for classes that this step does not score."""
        texts, names = self.texts(fwd), len(fwd.names)
        classes, scored = self.draw_classes(fwd.labels, names)
        drawn = self.draw(texts, fwd.device).index_select(0, classes)
        logits = fwd.scale * similarity(fwd.image(), fwd.sentences(texts, drawn).text())
        nothing = logits.new_full((len(logits), names), float("-inf"))
        return nothing.index_copy(1, classes, logits.masked_fill(~scored, float("-inf")))

    def draw_classes(self, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Indices (n,) of classes to encode in this step, those of the images first, and which of them (n,) it scores.

        How many are scored depends on the labels (B,), which the host does not read; n is the most there may be.
        """
        negatives, device = self.config.negatives, labels.device
        if negatives < 0 or classes <= len(labels):
            return torch.arange(classes, device=device), torch.ones(classes, dtype=torch.bool, device=device)
        present = torch.zeros(classes, device=device).scatter(0, labels, 1.0)
        order = (2 * present + torch.rand(classes, device=device)).argsort(descending=True)
        most = min(classes, len(labels) * (1 + negatives))
        return order[:most], torch.arange(most, device=device) < present.sum() * (1 + negatives)

    def draw(self, texts: Descriptions, device: torch.device) -> Tensor:
        """Indices (classes,) of this step's texts."""
        return texts.draw(device)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Logits with the mean over all texts of each class; in a training step, those of the loss."""
        return fwd.once("logits", lambda: fwd.scale * similarity(fwd.image(), self.mean_text(fwd)))

    def mean_text(self, fwd: ForwardPass) -> Tensor:
        """Unit mean (classes, joint) of the unit features of each class's texts."""
        texts = self.texts(fwd)
        return F.normalize(texts.mean(fwd.sentences(texts).text()), dim=-1)


class Convolution(nn.Module):
    """Depth-wise convolution of width 3 over tokens, whose filters learn as if its scale were 1.

    Args:
        width: of the tokens.
        dimensions: 1 for a row of tokens (n, tokens, width), 2 for a grid of patches (n, rows, columns, width).
    """

    def __init__(self, width: int, dimensions: int):
        super().__init__()
        made = (nn.Conv1d, nn.Conv2d)[dimensions - 1](width, width, 3, groups=width, bias=False)
        self.weight = made.weight
        self._convolve = (F.conv1d, F.conv2d)[dimensions - 1]

    def forward(self, scale: Tensor, x: Tensor) -> Tensor:
        """Scaled convolution, of the shape of `x`."""
        frozen = self.weight.detach()
        weight = scale * frozen + (self.weight - frozen)  # scale * weight, whose gradient is that of the scaled weight
        return self._convolve(x.movedim(-1, 1), weight, padding=1, groups=len(weight)).movedim(1, -1)

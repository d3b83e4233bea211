"""PromptSRC (Khattak et al., ICCV 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

from vlmadapt.plugin import (
    CONTEXT,
    END,
    IMAGE,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Task,
    inject,
    prompt,
    random_tokens,
    teacher,
)
from vlmadapt_multimodal.context import by_depth, starting_context

TEACHERS = 60
"""Number of OpenAI's ImageNet templates, from the first on, that the frozen text features are averaged over."""


@dataclass
class PromptSRCConfig:
    """Options of PromptSRC.

    Args:
        text_tokens: length of the text context at each depth.
        image_tokens: number of image tokens at each depth.
        words: words whose first `text_tokens` tokens initialise the input context, the rest stays frozen text before
            the class name; with more than 4 tokens, or no words, the initialisation is random, as in the published
            code.
        text_depth: number of depths with text contexts: at the input and before blocks 2 to `text_depth` (counted from
            1), at most the number of blocks.
        image_depth: number of depths with image tokens, counted likewise; 0 for none.
        text_weight: weight of the distance between text features and frozen ones.
        image_weight: weight of the distance between image features and frozen ones.
        logit_weight: weight of the divergence between class probabilities and frozen ones.
        average_mean: epoch (from 1) with the largest weight in the average over epochs.
        average_std: standard deviation of these Gaussian weights in epochs; 0 keeps the last epoch's parameters.
    """

    text_tokens: int = 4
    image_tokens: int = 4
    words: str = "a photo of a"
    text_depth: int = 9
    image_depth: int = 9
    text_weight: float = 25.0
    image_weight: float = 10.0
    logit_weight: float = 1.0
    average_mean: float = 15.0
    average_std: float = 1.0


class PromptSRC(Method):
    """Self-regulating prompts: deep prompts in both towers, regularised towards frozen CLIP and averaged over epochs.

    Text contexts precede the class name and are replaced by new ones before each of the first blocks; image tokens
    follow the patches and are replaced likewise. The two do not depend on each other. With unit features f, w and
    logits z, and f_0, w_0, z_0 those of frozen CLIP for the same image and for the mean text feature over 60 templates:

        loss = CE(z, y) + 25 mean|w - w_0| + 10 mean|f - f_0| + KL(softmax z_0 || softmax z) / C

    After the last epoch E the parameters become sum_t g_t theta_t, where theta_t are those at the end of epoch
    t = 1 .. E, with g_t proportional to exp(-(t - mean)^2 / (2 std^2)) and sum g_t = 1. Official code
    (muzairkhattak/PromptSRC) takes the means over all entries, where the paper has sums over the embedding, and divides
    the divergence by the number of classes too; it also averages the frozen weights, which changes nothing but
    rounding.
    """

    Config = PromptSRCConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2.5e-3, epochs=20, batch_size=4)
    paper = "Khattak et al., Self-regulating Prompts: Foundational Model Adaptation without Forgetting, ICCV 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the tokens of both towers and the buffer of their running average."""
        c = self.config
        first, self.template = starting_context(backbone.text, c.words, c.text_tokens)
        text, image = min(c.text_depth, backbone.text.depth), min(c.image_depth, backbone.image.depth)
        deep = (random_tokens(c.text_tokens, backbone.text.width) for _ in range(text - 1))
        self.contexts = nn.ParameterList([first, *deep])
        self.tokens = nn.ParameterList(random_tokens(c.image_tokens, backbone.image.width) for _ in range(image))
        self.average: torch.Tensor
        self.register_buffer("average", torch.zeros(sum(p.numel() for p in self.parameters())))

    def hooks(self) -> Iterable[Hook]:
        """Deep prompts in both towers, and the templates of the frozen text features."""
        yield prompt(self.template)
        yield inject(TEXT, by_depth(self.contexts, len(self.contexts)), at=CONTEXT)
        if len(self.tokens):
            yield inject(IMAGE, by_depth(self.tokens, len(self.tokens)), at=END)
        yield teacher(*(write("{}") for write in open_clip.OPENAI_IMAGENET_TEMPLATES[:TEACHERS]), normalize_each=False)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy and the three regularisers."""
        c = self.config
        log_p, log_p0 = F.log_softmax(fwd.logits(), dim=-1), F.log_softmax(fwd.zero_shot.logits, dim=-1)
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        yield LossTerm("text", c.text_weight, F.l1_loss(fwd.text(), fwd.zero_shot.text))
        yield LossTerm("image", c.image_weight, F.l1_loss(fwd.image(), fwd.zero_shot.image))
        yield LossTerm("logits", c.logit_weight, (log_p0.exp() * (log_p0 - log_p)).mean())

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Reset the average before the first epoch."""
        if epoch == 0:
            self.average.zero_()

    @torch.no_grad()
    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Add the parameters to the average; after the last epoch the average replaces them."""
        if not self.config.average_std:
            return
        parameters = list(self.parameters())
        self.average += self._share(epoch, epochs) * parameters_to_vector(parameters)
        if epoch == epochs - 1:
            for parameter, mean in zip(parameters, self.average.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(mean.view_as(parameter))

    def _share(self, epoch: int, epochs: int) -> float:
        """The weight g_t of an epoch (from 0), normalised over all epochs."""
        c = self.config
        weights = [math.exp(-(((t - c.average_mean) / c.average_std) ** 2) / 2) for t in range(1, epochs + 1)]
        return weights[epoch] / sum(weights)

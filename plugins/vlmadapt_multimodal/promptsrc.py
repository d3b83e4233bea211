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
"""How many of OpenAI's ImageNet templates, from the first on, the frozen text features are averaged over."""


@dataclass
class PromptSRCConfig:
    """Options of PromptSRC.

    Args:
        text_tokens: length of the text context at each depth.
        image_tokens: number of image tokens at each depth.
        words: the first `text_tokens` tokens of these words start the input context, the rest stays frozen text before
            the class name; with more than 4 tokens, or no words, the start is random, as in the published code.
        text_depth: text contexts are learned at the input and before blocks 2 to `text_depth` (counted from 1), or of
            all blocks if there are fewer.
        image_depth: the same for image tokens; 0 for none.
        text_weight: pull of the text features towards the frozen ones.
        image_weight: pull of the image features towards the frozen ones.
        logit_weight: pull of the class probabilities towards the frozen ones.
        average_mean: epoch (from 1) that weighs most in the averaged weights.
        average_std: width of those Gaussian weights in epochs; 0 keeps the last epoch's weights.
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
    """Self-regulating prompts: deep prompts in both towers, held near frozen CLIP, averaged over the epochs.

    Contexts replace the first places of the text row before each of the first blocks, image tokens stand behind the
    patches and are replaced likewise; the two do not depend on each other. With unit features f, w and logits z, and
    f_0, w_0, z_0 those of frozen CLIP for the same image and for the mean text over 60 templates:

        loss = CE(z, y) + 25 mean|w - w_0| + 10 mean|f - f_0| + KL(softmax z_0 || softmax z) / C

    Behind the last epoch E the weights become sum_t g_t theta_t over the ends of epochs t = 1 .. E, with g_t
    proportional to exp(-(t - mean)^2 / (2 std^2)) and sum g_t = 1. Official code (muzairkhattak/PromptSRC) takes the
    means over all entries, where the paper has sums over the embedding, and divides the divergence by the number of
    classes too; its average runs over the frozen weights as well, which changes nothing but rounding.
    """

    Config = PromptSRCConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2.5e-3, epochs=20, batch_size=4)
    paper = "Khattak et al., Self-regulating Prompts: Foundational Model Adaptation without Forgetting, ICCV 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the tokens of both towers and a place for their running average."""
        c = self.config
        first, self.template = starting_context(backbone.text, c.words, c.text_tokens)
        text, image = min(c.text_depth, backbone.text.depth), min(c.image_depth, backbone.image.depth)
        deep = (random_tokens(c.text_tokens, backbone.text.width) for _ in range(text - 1))
        self.contexts = nn.ParameterList([first, *deep])
        self.tokens = nn.ParameterList(random_tokens(c.image_tokens, backbone.image.width) for _ in range(image))
        self.average: torch.Tensor
        self.register_buffer("average", torch.zeros(sum(p.numel() for p in self.parameters())))

    def hooks(self) -> Iterable[Hook]:
        """Deep prompts in both towers, and the templates of the text teacher."""
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
        """Start a new average."""
        if epoch == 0:
            self.average.zero_()

    @torch.no_grad()
    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Add this epoch's weights to the average, which takes over behind the last epoch."""
        if not self.config.average_std:
            return
        parameters = list(self.parameters())
        self.average += self._share(epoch, epochs) * parameters_to_vector(parameters)
        if epoch == epochs - 1:
            for parameter, mean in zip(parameters, self.average.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(mean.view_as(parameter))

    def _share(self, epoch: int, epochs: int) -> float:
        """The Gaussian weight of an epoch among all of them."""
        c = self.config
        weights = [math.exp(-(((t - c.average_mean) / c.average_std) ** 2) / 2) for t in range(1, epochs + 1)]
        return weights[epoch] / sum(weights)

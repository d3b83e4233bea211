"""ProGrad (Zhu et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Recipe,
    Task,
    Trainer,
    teacher,
    tokens_from_text,
)
from vlmadapt_prompts.context import PlacedName
from vlmadapt_prompts.coop import CoOp, CoOpConfig


@dataclass
class ProGradConfig(CoOpConfig):
    """Options of ProGrad, in addition to those of CoOp.

    Args:
        tokens: length of the learned context.
        words: words whose embeddings initialise the end of the context; by default the words of `template` before the
            class name.
        start: initialisation of the context: zeros followed by `words`, or `random` as in CoOp.
        template: template of the frozen classifier; by default the data set's.
        strength: fraction lambda of the conflicting gradient component that is removed.
        temperature: temperature T of L_kl.
    """

    start: Literal["words", "random"] = "words"
    template: str = ""
    strength: float = 1.0
    temperature: float = 1.0


class ProGrad(CoOp):
    """Prompt-aligned Gradient: CoOp whose gradient is projected so that it does not conflict with zero-shot CLIP.

    Two gradients are taken for each trainable tensor: g of the cross entropy and h of

        L_kl = -T^2 mean_b sum_i softmax(z^0 / T)_i log softmax(z / T)_i

    with z^0 the frozen logits of the same augmented images. Where g . h < 0 the step follows
    `g - lambda (g . h / |h|^2) h`, else g; L_kl itself is never minimised. The paper writes L_kl as a divergence, whose
    gradient is the same. Official code (BeierZhu/Prompt-align) initialises the context with zeros followed by the words
    of the template. It counts words where it means tokens, so if the words contain a comma, the last word is not
    learned but stays frozen text.
    """

    Config = ProGradConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=32)
    paper = "Zhu et al., Prompt-aligned Gradient for Prompt Tuning, ICCV 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the context, initialised with zeros and the template's words, or at random."""
        c = self.config
        self.teacher = c.template or task.templates[0]
        words = c.words or self.teacher.partition("{}")[0].strip()
        if c.start == "random" or not words:
            self.build_random(backbone, task)
            return
        embedded, prefix = tokens_from_text(backbone.text, words)
        n = len(embedded)
        if n > c.tokens:
            raise DataError(f"a context of {c.tokens} tokens has no room for the {n} words of '{words}'.")
        self.context = nn.Parameter(F.pad(embedded.detach(), (0, 0, c.tokens - n, 0)))
        rest = prefix.removeprefix(f"[{n}]")
        self.template = PlacedName(f"[{c.tokens}]{rest} {{}}.", position=c.position)

    def hooks(self) -> Iterable[Hook]:
        """CoOp's context, and the frozen classifier's template."""
        yield from super().hooks()
        yield teacher(self.teacher)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and L_kl, which has weight 0 because only its gradient is used."""
        t = self.config.temperature
        yield from super().losses(fwd)
        yield LossTerm("guide", 0.0, t**2 * F.cross_entropy(fwd.logits() / t, (fwd.zero_shot.logits / t).softmax(-1)))

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """A step along the gradient of the cross entropy, less its component against that of L_kl."""
        terms = list(self.losses(fwd))
        (_, _, loss), (_, _, guide) = terms
        pairs = zip(trainer.gradients(loss), trainer.gradients(guide), strict=True)
        trainer.apply([self.aligned(g, h) for g, h in pairs])
        return terms

    def aligned(self, g: Tensor | None, h: Tensor | None) -> Tensor | None:
        """The gradient g less its component against h; g itself if they do not conflict."""
        if g is None or h is None:
            return g
        along = torch.sum(g * h)
        return torch.where(along < 0, g - self.config.strength * along / h.square().sum() * h, g)

"""TCP (Yao et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Task,
    cosine_distance,
    inject,
    per_class,
    prompt,
    teacher,
)
from vlmadapt_prompts.context import start_context

LEAST = 4
"""Number of class tokens at least."""


@dataclass
class TCPConfig:
    """Options of TCP.

    Args:
        tokens: length of the learned context; ignored if `words` is given. There are as many class tokens, or 4 after a
            shorter context, where they replace the words that follow it too; the published code always has 4.
        words: words whose embeddings initialise the context, in the paper 'a photo of a'; empty for random
            initialisation, as in the released configuration.
        template: text after the context, e.g. '{}, a type of pet.'. If class tokens need more words before the class
            name, it starts with "X" for each.
        teacher: template of the frozen text features; by default the data set's.
        layer: block, counted from 1, before which the class tokens replace the context.
        reduction: joint width divided by the hidden width of the map from features to class tokens.
        weight: weight lambda of the distance to the frozen text features.
    """

    tokens: int = 4
    words: str = ""
    template: str = "{}."
    teacher: str = ""
    layer: int = 9
    reduction: int = 4
    weight: float = 8.0


class TCP(Method):
    """Textual-based Class-aware Prompt tuning: class tokens mapped from frozen text features enter upper text layers.

    A shared context of n vectors enters at the embedding; before block `layer` it is replaced by

        G(w_i^0) = W_2 q(W_1 n(w_i^0) + b_1) + b_2,   n tokens of class i,

    from the frozen text feature w_i^0, with q CLIP's QuickGELU. With the regulariser of KgCoOp:

        loss = CE(z, y) + lambda mean_i (1 - cos(w_i, w_i^0))

    Unseen classes use the same map. Official code: htyao89/Textual-based_Class-aware_prompt_tuning. It initialises the
    context at random where the paper starts from "a photo of a", and has different templates for learned prompts and
    frozen features, both chosen per data set (`configs/tcp/datasets`).
    """

    Config = TCPConfig
    api_version = 2
    recipe = Recipe(optimizer="adam", lr=2e-3, epochs=50, batch_size=32, eps=1e-3)
    paper = "Yao et al., TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model, CVPR 2024"
    touches = (TEXT,)

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the context (n, width) and the map from features to class tokens."""
        c, text = self.config, backbone.text
        self.context, prefix = start_context(text, c.words, c.tokens)
        covered, rest = first_words(prefix.partition("]")[2] + f" {c.template}", LEAST - len(self.context))
        self.covered: Tensor
        self.register_buffer("covered", text.words(covered), persistent=False)
        self.places = len(self.context) + len(self.covered)
        self.template = f"[{self.places}] {rest}"
        hidden = max(1, text.joint // c.reduction)
        self.down = nn.Linear(text.joint, hidden)
        self.up = nn.Linear(hidden, self.places * text.width)

    def class_tokens(self, fwd: ForwardPass) -> Tensor:
        """Class tokens (classes, n, width), 4 at least."""
        hidden = self.down(fwd.zero_shot.text)
        return self.up(hidden * torch.sigmoid(1.702 * hidden)).unflatten(-1, (self.places, -1))

    def hooks(self) -> Iterable[Hook]:
        """The shared context, replaced by class tokens before block `layer`."""
        context = torch.cat([self.context, self.covered])
        yield prompt(self.template)
        yield inject(TEXT, {EMBEDDING: context, self.config.layer - 1: per_class(self.class_tokens)}, at=CONTEXT)
        if self.config.teacher:
            yield teacher(self.config.teacher)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and the distance to the frozen text features."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        yield LossTerm("text", self.config.weight, cosine_distance(fwd.text(), fwd.zero_shot.text))


def first_words(text: str, n: int) -> tuple[str, str]:
    """The first n words of a text before its class name, with an X for each that is missing, and the rest."""
    before, name, after = text.partition("{}")
    words = before.split()
    covered = (words + ["X"] * n)[: max(n, 0)]
    return " ".join(covered), " ".join([*words[len(covered) :], name + after])

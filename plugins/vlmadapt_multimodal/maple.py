"""MaPLe (Khattak et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    END,
    IMAGE,
    TEXT,
    Backbone,
    Hook,
    Method,
    Recipe,
    Task,
    clone_linear,
    inject,
    map_each,
    prompt,
    random_tokens,
)
from vlmadapt_multimodal.context import by_depth, starting_context


@dataclass
class MaPLeConfig:
    """Options of MaPLe.

    Args:
        tokens: length of the context at each depth.
        words: words whose first `tokens` tokens initialise the input context, the rest stays frozen text before the
            class name; with more than 4 tokens, or no words, the initialisation is random, as in the published code.
        depth: number of depths with contexts: at the input and before blocks 2 to `depth` (counted from 1); a tower
            with fewer blocks leaves the last contexts unused.
    """

    tokens: int = 2
    words: str = "a photo of a"
    depth: int = 9


class MaPLe(Method):
    """Multi-modal Prompt Learning: deep text contexts, and image tokens that are linear maps of them.

    Before block j < depth (counted from 0) the context tokens of the text sequence are replaced by P_j, and the last
    tokens of the image sequence by F_j(P_j); later blocks do not replace them. At the input, text contexts get
    positional embeddings, image tokens get none but pass the first norm; deeper tokens get neither. The loss is the
    cross entropy of CLIP's logits. Official code: muzairkhattak/multimodal-prompt-learning; all maps F_j but the first
    are initialised as copies of one map.
    """

    Config = MaPLeConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=3.5e-3, epochs=5, batch_size=4)
    paper = "Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the contexts (n, width) of each depth and the linear maps that couple the towers."""
        c, width = self.config, backbone.text.width
        self.context, self.template = starting_context(backbone.text, c.words, c.tokens)
        self.deep = nn.ParameterList(random_tokens(c.tokens, width) for _ in range(c.depth - 1))
        self.couple = nn.Linear(width, backbone.image.width)
        self.couple_deep = clone_linear(nn.Linear(width, backbone.image.width), c.depth - 1)
        self.blocks = backbone.text.depth, backbone.image.depth

    def hooks(self) -> Iterable[Hook]:
        """Contexts in the text tower, and the tokens mapped from them in the image tower."""
        contexts = (self.context, *self.deep)
        text, image = self.blocks
        yield prompt(self.template)
        yield inject(TEXT, by_depth(contexts, text), at=CONTEXT)
        yield inject(IMAGE, by_depth(self.coupled(contexts), image), at=END)

    def coupled(self, contexts: Sequence[Tensor]) -> list[Tensor]:
        """Contexts (n, text width) of each depth -> image tokens (n, image width), in one product for all depths."""
        couples = (self.couple, *self.couple_deep)
        weights, biases = (torch.stack([getattr(m, name) for m in couples]) for name in ("weight", "bias"))
        return map_each(contexts, weights, biases)

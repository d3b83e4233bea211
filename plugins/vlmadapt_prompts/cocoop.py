"""CoCoOp (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    Method,
    Recipe,
    Task,
    inject,
    per_image,
    prompt,
)
from vlmadapt_prompts.context import start_context


@dataclass
class CoCoOpConfig:
    """Options of CoCoOp.

    Args:
        tokens: length of the learned context; ignored if `words` is given.
        words: words whose embeddings initialise the context; empty for random initialisation.
        reduction: joint width divided by the hidden width of the meta-net.
    """

    tokens: int = 4
    words: str = "a photo of a"
    reduction: int = 16


class CoCoOp(Method):
    """Conditional Context Optimization: a small network shifts the context vectors by an image-dependent offset.

    With the unit image feature f_b, image b has the context `v_j(b) = v_j + m(f_b)`, where the offset
    `m(f) = W_2 relu(W_1 f + b_1) + b_2` is the same for each of its vectors; the prompt of class i is
    `[v_1(b) .. v_n(b), name_i, .]`. Every image has its own text features, so a batch of B images encodes B times as
    many prompts; the loss is the cross entropy of CLIP's logits. Official code (KaiyangZhou/CoOp,
    `trainers/cocoop.py`) gives the meta-net the normalised feature, where the paper says only "image feature", and ends
    the prompt with a full stop.
    """

    Config = CoCoOpConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=10, batch_size=1)
    paper = "Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022"
    touches = (TEXT,)

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the context (n, width) and the meta-net."""
        c, joint = self.config, backbone.image.joint
        self.context, prefix = start_context(backbone.text, c.words, c.tokens)
        self.template = f"{prefix} {{}}."
        hidden = max(1, joint // c.reduction)
        self.meta_net = nn.Sequential(nn.Linear(joint, hidden), nn.ReLU(), nn.Linear(hidden, backbone.text.width))

    def contexts(self, fwd: ForwardPass) -> Tensor:
        """Context vectors of each image, (B, n, width)."""
        return self.context + self.meta_net(fwd.image())[:, None]

    def hooks(self) -> Iterable[Hook]:
        """Inject a context per image at the placeholders of the prompt."""
        yield prompt(self.template)
        yield inject(TEXT, {EMBEDDING: per_image(self.contexts)}, at=CONTEXT)

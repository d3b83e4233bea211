"""CoOp (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    TEXT,
    Backbone,
    Hook,
    Method,
    Recipe,
    Task,
    inject,
    per_class,
    prompt,
    random_tokens,
    tokens_from_text,
)
from vlmadapt_prompts.context import PlacedName, Position, placeholder


@dataclass
class CoOpConfig:
    """Options of CoOp.

    Args:
        tokens: length of the learned context; ignored if `words` is given.
        words: words whose embeddings initialise the context, e.g. 'a photo of a'; empty for random initialisation.
        position: position of the class name: after the context (end), in the middle of it, or before it (front).
        per_class: learn a context per class (CSC), which cannot predict other classes; ignored if `words` is given, as
            in the published code.
    """

    tokens: int = 16
    words: str = ""
    position: Position = "end"
    per_class: bool = False


class CoOp(Method):
    """Context Optimization: the words around the class name become trainable vectors.

    The prompt of class i is `[v_1 .. v_n, name_i, .]`; the loss is the cross entropy of CLIP's logits. The context
    vectors receive positional embeddings like any word. Official code (KaiyangZhou/CoOp) ends the prompt with a full
    stop that is not in the paper, and so does this.
    """

    Config = CoOpConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=32)
    paper = "Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022"
    touches = (TEXT,)

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the context, initialised at random or from words."""
        c = self.config
        if not c.words:
            self.build_random(backbone, task)
            return
        self.context, prefix = tokens_from_text(backbone.text, c.words)
        self.template = PlacedName(f"{prefix} {{}}.", position=c.position)

    def build_random(self, backbone: Backbone, task: Task) -> None:
        """Create a random context (n, width), or (classes, n, width) with `per_class`."""
        c = self.config
        self.template = PlacedName(f"{placeholder(c.tokens)} {{}}.", position=c.position)
        shape = (len(task.classes), c.tokens) if c.per_class else (c.tokens,)
        self.context = random_tokens(*shape, backbone.text.width)

    @property
    def answers_unseen(self) -> bool:
        """False with `per_class`: a context per class exists for the training classes only."""
        return self.context.ndim == 2

    def hooks(self) -> Iterable[Hook]:
        """Inject the context at the placeholders of the prompt."""
        yield prompt(self.template)
        tokens = per_class(self.context) if self.context.ndim == 3 else self.context
        yield inject(TEXT, {EMBEDDING: tokens}, at=CONTEXT)

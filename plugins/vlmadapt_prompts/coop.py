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
from vlmadapt_prompts.context import PlacedName, Position, row_room


@dataclass
class CoOpConfig:
    """Options of CoOp.

    Args:
        tokens: length of the learned context; ignored where `words` are given.
        words: start at the embeddings of these words, e.g. 'a photo of a'; empty for a random start.
        position: where the class name stands: behind the context, in the middle of it, or in front.
        per_class: a context for each class (CSC); such a context cannot answer for other classes. Ignored where
            `words` are given, as in the published code.
    """

    tokens: int = 16
    words: str = ""
    position: Position = "end"
    per_class: bool = False


class CoOp(Method):
    """Context Optimization: the words around the class name become trainable vectors.

    The row of class i is `[v_1 .. v_n, name_i, .]`; the loss is the cross entropy of CLIP's logits. The context takes
    part in the positional embedding like any word. Official code (KaiyangZhou/CoOp) ends the row with a full stop that
    the paper does not have, and so does this.
    """

    Config = CoOpConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=32)
    paper = "Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022"
    touches = (TEXT,)

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the context, random or from words."""
        c = self.config
        if not c.words:
            self.build_random(backbone, task)
            return
        self.context, start = tokens_from_text(backbone.text, c.words)
        self.template = PlacedName(f"{start} {{}}.", position=c.position)

    def build_random(self, backbone: Backbone, task: Task) -> None:
        """A random context, shared or for each class."""
        c = self.config
        self.template = PlacedName(f"{row_room(c.tokens)} {{}}.", position=c.position)
        shape = (len(task.classes), c.tokens) if c.per_class else (c.tokens,)
        self.context = random_tokens(*shape, backbone.text.width)

    @property
    def answers_unseen(self) -> bool:
        """A context of its own says nothing of another class."""
        return self.context.ndim == 2

    def hooks(self) -> Iterable[Hook]:
        """The context, in the row's placeholders."""
        yield prompt(self.template)
        tokens = per_class(self.context) if self.context.ndim == 3 else self.context
        yield inject(TEXT, {EMBEDDING: tokens}, at=CONTEXT)

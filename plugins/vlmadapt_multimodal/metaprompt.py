"""MetaPrompt (Zhao et al., TIP 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
    Role,
    Task,
    Trainer,
    inject,
    prompt,
    random_tokens,
    similarity,
    teacher,
    total,
)
from vlmadapt_multimodal.context import by_depth


@dataclass
class MetaPromptConfig:
    """Options of MetaPrompt.

    Args:
        text_tokens: length of the text context at each depth.
        image_tokens: number of image tokens at each depth.
        depth: tokens enter at the input and before blocks 2 to `depth` (counted from 1); 0 for all blocks. A tower with
            fewer blocks leaves the last of them unused.
        meta_step: size of the meta update, as a part of the learning rate.
        undo: which inner steps are undone: the first alone, as the published code does without meaning to, or both.
        drift: image tokens, which are meant to rest in the inner steps, move by momentum and weight decay; so does the
            published code under the PyTorch 1 it asks for, and not under PyTorch 2.
        raw_names: write class names with their underscores into the frozen texts, as the published code does.
    """

    text_tokens: int = 2
    image_tokens: int = 2
    depth: int = 0
    meta_step: float = 0.2
    undo: Literal["first", "both"] = "first"
    drift: bool = False
    raw_names: bool = True


class MetaPrompt(Method):
    """Deep prompts in both towers that never meet, and text contexts trained to help classes they were not trained on.

    With features f, w of the prompted towers, f_0, w_0 of the frozen ones, and CLIP's scale s:

        z_v = s cos(f, w_0)        z_t = s cos(f_0, w)        z = (z_v + z_t) / 2

    A step first minimises CE(z) + CE(z_v) + CE(z_t). Then the classes are cut at random in two halves, the batch with
    them; for each half the contexts take a step on CE(z_t) of the other half, the gradient g_i of CE(z_t) on this half
    is taken there (first order), and the contexts go back. At the end they move by -lr * meta_step * sum_i g_i.

    Official code (Vill-Lab/2024-TIP-MetaPrompt) puts the contexts back by sharing memory with the saved copy, so that
    the step of the second half stays in the weights; that is the default here, `undo` repairs it. Inner steps go
    through the one optimiser and leave their trace in its momentum. The frozen texts are the data set's without the
    full stop; several of them are averaged. A second official trainer, for domain generalisation, cuts the batch by the
    images' domains and plays its episodes with image tokens and z_v; no data set here says what domain an image is of.
    """

    Config = MetaPromptConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=1.5e-3, epochs=8, batch_size=16)
    paper = "Zhao et al., Learning Domain Invariant Prompt for Vision-Language Models, IEEE TIP 2024"
    whole_batch = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create contexts (depth, n, width) and image tokens (depth, n, width)."""
        c = self.config
        text, image = (c.depth or tower.depth for tower in (backbone.text, backbone.image))
        self.context = random_tokens(text, c.text_tokens, backbone.text.width)
        self.tokens = random_tokens(image, c.image_tokens, backbone.image.width)
        self.blocks = backbone.text.depth, backbone.image.depth
        self.templates = [template.removesuffix(".") for template in task.templates]

    def hooks(self) -> Iterable[Hook]:
        """Deep prompts in both towers, and the frozen texts."""
        yield prompt(f"[{self.config.text_tokens}] {{}}.")
        text, image = self.blocks
        yield inject(TEXT, by_depth(self.context, text), at=CONTEXT)
        yield inject(IMAGE, by_depth(self.tokens, image), at=END)
        yield teacher(*self.templates, keep_underscores=self.config.raw_names)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropies of the average and of both branches."""
        image, text = _branches(fwd)
        yield LossTerm("average", 1.0, F.cross_entropy((image + text) / 2, fwd.labels))
        yield LossTerm("image", 1.0, F.cross_entropy(image, fwd.labels))
        yield LossTerm("text", 1.0, F.cross_entropy(text, fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The average of both branches, for every class."""
        image, text = _branches(fwd)
        return (image + text) / 2

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """A step on the batch, then the episodes; their losses are logged with weight 0."""
        terms = list(self.losses(fwd))
        trainer.backward_and_step(total(terms))
        halves = self.shuffled(len(fwd.names)).split((len(fwd.names) + 1) // 2)
        meta = []
        for i, (here, there) in enumerate(zip(halves, halves[::-1], strict=True)):
            if len(here) < 2 or not (_images_of(fwd, here).numel() and _images_of(fwd, there).numel()):
                continue
            before = self.context.detach().clone()
            inner = self._text_loss(fwd, there)
            self._inner_step(inner, trainer)
            outer = self._text_loss(fwd, here)
            meta.append(trainer.gradients(outer)[self._place()])
            if i == 0 or self.config.undo == "both":
                _assign(self.context, before)
            terms += [(f"inner {i + 1}", 0.0, inner), (f"outer {i + 1}", 0.0, outer)]
        for gradient in meta:
            # With fp16 a gradient may overflow; the trainer skips such a step, and so does this.
            if gradient is not None and gradient.isfinite().all():
                _assign(self.context, self.context - trainer.lr * self.config.meta_step * gradient)
        return terms

    def shuffled(self, classes: int) -> Tensor:
        """The classes in random order."""
        return torch.randperm(classes)

    def _text_loss(self, fwd: ForwardPass, classes: Tensor) -> Tensor:
        """CE(z_t) of some classes on their images, with the contexts as they are now."""
        text = fwd.other(names=[fwd.names[i] for i in classes.tolist()]).text()
        keep = _images_of(fwd, classes)
        labels = (fwd.labels[keep][:, None] == classes.to(fwd.device)).int().argmax(dim=1)
        return F.cross_entropy(fwd.scale * similarity(fwd.zero_shot.image[keep], text), labels)

    def _inner_step(self, loss: Tensor, trainer: Trainer) -> None:
        gradients = trainer.gradients(loss)
        if self.config.drift:
            gradients = [
                torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters(), gradients, strict=True)
            ]
        trainer.apply(gradients)

    def _place(self) -> int:
        """Which of the parameters the context is."""
        return next(i for i, p in enumerate(self.parameters()) if p is self.context)


def _branches(fwd: ForwardPass) -> tuple[Tensor, Tensor]:
    """z_v and z_t, each (B, classes)."""
    image = fwd.scale * similarity(fwd.image(), fwd.zero_shot.text)
    return image, fwd.scale * similarity(fwd.zero_shot.image, fwd.text())


def _images_of(fwd: ForwardPass, classes: Tensor) -> Tensor:
    """Indices of the batch's images of some classes."""
    return torch.isin(fwd.labels, classes.to(fwd.device)).nonzero().flatten()


@torch.no_grad()
def _assign(parameter: Tensor, value: Tensor) -> None:
    parameter.copy_(value)

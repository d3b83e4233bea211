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
        depth: number of depths with tokens: at the input and before blocks 2 to `depth` (counted from 1); 0 for all
            blocks. A tower with fewer blocks leaves the last tokens unused.
        meta_step: step size of the meta update, as a fraction of the learning rate.
        undo: inner steps to undo: only the first, as the published code does unintentionally, or both.
        drift: let momentum and weight decay move the image tokens in the inner steps, where they are meant to stay
            fixed; the published code does so under the PyTorch 1 it requires, but not under PyTorch 2.
        raw_names: keep the underscores of class names in the frozen texts, as the published code does.
    """

    text_tokens: int = 2
    image_tokens: int = 2
    depth: int = 0
    meta_step: float = 0.2
    undo: Literal["first", "both"] = "first"
    drift: bool = False
    raw_names: bool = True


class MetaPrompt(Method):
    """Deep prompts in both towers, each against the other tower's frozen features, with a meta-learning step for text.

    With features f, w of the prompted towers, f_0, w_0 of the frozen ones, and CLIP's scale s:

        z_v = s cos(f, w_0)        z_t = s cos(f_0, w)        z = (z_v + z_t) / 2

    A step first minimises CE(z) + CE(z_v) + CE(z_t). Then the classes, and with them the batch, are split at random
    into two halves. For each half i, an inner step moves the contexts along CE(z_t) of the other half, the gradient g_i
    of CE(z_t) on half i is taken at the moved contexts (first order), and the contexts are restored. Finally they move
    by -lr * meta_step * sum_i g_i.

    Official code (Vill-Lab/2024-TIP-MetaPrompt) restores the contexts from a copy that shares their memory, so the
    inner step of the second half stays in the weights; that is the default here, and `undo` corrects it. Inner steps
    use the same optimiser and enter its momentum. The frozen texts are the data set's without the full stop; several
    templates are averaged. A second official trainer, for domain generalisation, splits the batch by the images'
    domains and runs its episodes with image tokens and z_v; it is not implemented, because no data set here has domain
    labels.
    """

    Config = MetaPromptConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=1.5e-3, epochs=8, batch_size=16)
    paper = "Zhao et al., Learning Domain Invariant Prompt for Vision-Language Models, IEEE TIP 2024"
    whole_batch = True
    dynamic_step = True  # an episode has as many images as the batch has of its random half of the classes

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create contexts (depth, n, width) and image tokens (depth, n, width)."""
        c = self.config
        text, image = (c.depth or tower.depth for tower in (backbone.text, backbone.image))
        self.context = random_tokens(text, c.text_tokens, backbone.text.width)
        self.tokens = random_tokens(image, c.image_tokens, backbone.image.width)
        self.blocks = backbone.text.depth, backbone.image.depth
        self.templates = [template.removesuffix(".") for template in task.templates]

    def hooks(self) -> Iterable[Hook]:
        """Deep prompts in both towers, and the templates of the frozen text features."""
        yield prompt(f"[{self.config.text_tokens}] {{}}.")
        text, image = self.blocks
        yield inject(TEXT, by_depth(self.context, text), at=CONTEXT)
        yield inject(IMAGE, by_depth(self.tokens, image), at=END)
        yield teacher(*self.templates, keep_underscores=self.config.raw_names)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropies of z, z_v and z_t."""
        image, text = _branches(fwd)
        yield LossTerm("average", 1.0, F.cross_entropy((image + text) / 2, fwd.labels))
        yield LossTerm("image", 1.0, F.cross_entropy(image, fwd.labels))
        yield LossTerm("text", 1.0, F.cross_entropy(text, fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The average z of z_v and z_t, for seen and unseen classes alike."""
        image, text = _branches(fwd)
        return (image + text) / 2

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """A step on the batch, then the meta-learning episodes, whose losses are logged with weight 0."""
        terms = list(self.losses(fwd))
        trainer.backward_and_step(total(terms))
        halves = self.shuffled(len(fwd.names)).split((len(fwd.names) + 1) // 2)
        meta = []
        for i, (half, other) in enumerate(zip(halves, halves[::-1], strict=True)):
            if len(half) < 2 or not (_images_of(fwd, half).numel() and _images_of(fwd, other).numel()):
                continue
            before = self.context.detach().clone()
            inner = self._text_loss(fwd, other)
            self._inner_step(inner, trainer)
            outer = self._text_loss(fwd, half)
            meta.append(trainer.gradients(outer)[self._context_index()])
            if i == 0 or self.config.undo == "both":
                _assign(self.context, before)
            terms += [LossTerm(f"inner {i + 1}", 0.0, inner), LossTerm(f"outer {i + 1}", 0.0, outer)]
        for gradient in meta:
            # With fp16 a gradient may overflow; like the trainer, skip such a step.
            if gradient is not None and gradient.isfinite().all():
                _assign(self.context, self.context - trainer.lr * self.config.meta_step * gradient)
        return terms

    def shuffled(self, classes: int) -> Tensor:
        """Class indices (classes,) in random order."""
        return torch.randperm(classes)

    def _text_loss(self, fwd: ForwardPass, classes: Tensor) -> Tensor:
        """CE(z_t) over some classes and their images, at the current contexts."""
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

    def _context_index(self) -> int:
        """Index of the context among the parameters."""
        return next(i for i, p in enumerate(self.parameters()) if p is self.context)


def _branches(fwd: ForwardPass) -> tuple[Tensor, Tensor]:
    """The logits z_v and z_t, each (B, classes)."""
    image = fwd.scale * similarity(fwd.image(), fwd.zero_shot.text)
    return image, fwd.scale * similarity(fwd.zero_shot.image, fwd.text())


def _images_of(fwd: ForwardPass, classes: Tensor) -> Tensor:
    """Indices of the images of the batch that belong to some classes."""
    return torch.isin(fwd.labels, classes.to(fwd.device)).nonzero().flatten()


@torch.no_grad()
def _assign(parameter: Tensor, value: Tensor) -> None:
    parameter.copy_(value)

"""ProDA (Lu et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    TEXT,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Task,
    Trainer,
    inject,
    per_variant,
    prompt,
    random_tokens,
)
from vlmadapt_prompts.context import PlacedName, Position, placeholder

MEAN = "mean classifier"


@dataclass
class ProDAConfig:
    """Options of ProDA.

    Args:
        prompts: number N of contexts, a multiple of 4.
        tokens: length of each context.
        batch: number b of contexts used in a training step; N must be a multiple of it.
        weight: weight alpha of the orthogonality term.
        raw_names: keep the underscores of class names, as the port does.
    """

    prompts: int = 32
    tokens: int = 16
    batch: int = 4
    weight: float = 0.1
    raw_names: bool = False


class ProDA(Method):
    """Prompt Distribution Learning: a Gaussian over the classifiers of many prompts.

    Of N contexts, the first quarter has the class name in front, the second quarter in the middle, the rest at the end.
    A step uses b of them, drawn without replacement until all have been used: v_{i,k} is the unit text feature of class
    i, mu_i = mean_k v_{i,k}, and with x the unit image feature, y its class and d_{i,k} = v_{i,k} - mu_i,

        z_i = s x . mu_i + s^2 / 2 var(x . (v_y - v_i)),
        var(x . (v_y - v_i)) = 1 / (b + 1) sum_k sum_q x_q^2 (d_{y,k,q} - d_{i,k,q})^2,

    whose cross entropy is an upper bound of the expected loss if the classifiers are Gaussian with a covariance that is
    diagonal over the feature dimensions q. With u_k the unit feature of prompt k without a class name,

        loss = CE(z, y) + alpha mean_{k != l} |u_k . u_l|

    Predictions are s x . mu_i over all N contexts; mu_i is not normalised again.

    The authors' code is not public; this follows a port (ml-stat-Sustech/CLIP_Calibration), which divides by b + 1.
    That port keeps underscores in names but counts the tokens of a name without them, so only the beginning of such a
    name moves before or into the context. `raw_names` reproduces this; by default underscores become spaces.
    """

    Config = ProDAConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=1e-3, epochs=100, batch_size=4)
    paper = "Lu et al., Prompt Distribution Learning, CVPR 2022"
    touches = (TEXT,)
    dynamic_step = True  # the class name's place, and with it the packing of the texts, differs by context
    order: Tensor  # (N,) order in which the contexts are used
    used: Tensor  # () number of contexts used since the order was drawn

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the contexts (N, n, width), and the order they are used in."""
        c = self.config
        if c.prompts < 4 or c.prompts % 4 or c.batch < 1 or c.prompts % c.batch:
            raise DataError(f"{c.prompts} prompts cannot be split into quarters and into batches of {c.batch}.")
        text = f"{placeholder(c.tokens)} {{}}."
        quarters: tuple[Position, ...] = ("front", "middle", "end", "end")
        self.templates = [PlacedName(text, c.raw_names, at) for at in quarters for _ in range(c.prompts // 4)]
        self.contexts = random_tokens(c.prompts, c.tokens, backbone.text.width)
        self.register_buffer("order", torch.arange(c.prompts))
        self.register_buffer("used", torch.tensor(c.prompts))

    def hooks(self) -> Iterable[Hook]:
        """The prompts of all contexts."""
        return self.prompts_of(range(self.config.prompts))

    def prompts_of(self, chosen: Iterable[int]) -> list[Hook]:
        """The prompts of the contexts with these indices."""
        picked = list(chosen)
        templates, contexts = [self.templates[k] for k in picked], torch.stack([self.contexts[k] for k in picked])
        return [prompt(*templates), inject(TEXT, {EMBEDDING: per_variant(contexts)}, at=CONTEXT)]

    def nameless(self) -> list[Hook]:
        """The prompts of all contexts without a class name."""
        return [prompt(f"[{self.config.tokens}]."), inject(TEXT, {EMBEDDING: per_variant(self.contexts)}, at=CONTEXT)]

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """A step with the next `batch` contexts; a new order is drawn once all have been used."""
        if int(self.used) >= self.config.prompts:
            self.order.copy_(torch.randperm(self.config.prompts))
            self.used.zero_()
        terms = super().training_step(fwd, trainer)
        self.used += self.config.batch
        return terms

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """The bound over the contexts of this step, and the orthogonality of all contexts."""
        start = int(self.used) % self.config.prompts
        chosen = self.order[start : start + self.config.batch].tolist()
        text = fwd.other(hooks=self.prompts_of(chosen)).text().reshape(len(chosen), len(fwd.names), -1)
        fwd.once(MEAN, lambda: text.mean(0))
        yield LossTerm("ce", 1.0, F.cross_entropy(bound(fwd.image(), text, fwd.labels, fwd.scale), fwd.labels))
        nameless = fwd.other(hooks=self.nameless(), names=("",)).text().flatten(0, -2)
        yield LossTerm("orthogonality", self.config.weight, mean_overlap(nameless))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The mean classifier over all contexts; right after a training step, over those of that step."""
        return fwd.scale * fwd.image() @ fwd.once(MEAN, lambda: fwd.text().mean(0)).T


def bound(image: Tensor, text: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Logits whose cross entropy is an upper bound of the expected one.

    The variances are computed from the prompts' deviations, without a covariance of all pairs of classes.

    Args:
        image: (B, d) unit image features.
        text: (b, classes, d) unit text features of b prompts.
        labels: (B,) class indices.
        scale: CLIP's logit scale.

    Returns:
        Logits (B, classes).
    """
    mean = text.mean(0)
    deviation, squares = text - mean, image.square()
    with torch.autocast(image.device.type, enabled=False):  # small differences of small squares
        variances = torch.einsum("bd,kcd->bc", squares, deviation.square())
        covariances = torch.einsum("bd,kbd,kcd->bc", squares, deviation[:, labels], deviation)
    variance = (variances.gather(1, labels[:, None]) + variances - 2 * covariances) / (len(text) + 1)
    return scale * image @ mean.T + scale**2 / 2 * variance


def mean_overlap(features: Tensor) -> Tensor:
    """Mean |cosine| over pairs of different unit features (N, d)."""
    overlap = (features @ features.T).abs()
    n = len(features)
    return (overlap.sum() - overlap.diagonal().sum()) / (n * (n - 1))

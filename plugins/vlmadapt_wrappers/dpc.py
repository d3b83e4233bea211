"""DPC (Li et al., CVPR 2025): tuned prompts for new classes, a parallel copy of them for the classes trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    SEEN,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Support,
    Task,
    Trainer,
    VlmadaptError,
    Wrapper,
    WrapperConfig,
    mixed_hooks,
)

SECOND_STAGE = 20
"""Published epochs of the second stage."""

FEWEST = 2
"""Negatives that each image adds to the batch, if need be at random."""


@dataclass
class DPCConfig(WrapperConfig):
    """Options of DPC.

    Args:
        wraps: registered name of the prompt learner inside.
        options: options of that method; missing ones keep their published values.
        topk: classes that the tuned prompts score highest, of which the wrong ones are an image's hard negatives.
        weight: omega_b, weight of the parallel prompts while they are trained: the loss is divided by it.
        seen: weight of the parallel prompts for the classes trained on; the paper's formula takes omega_b, its code 1.
        unseen: omega_n, weight of the parallel prompts for all other classes.
    """

    wraps: str = "coop"
    topk: int = 8
    weight: float = 0.5
    seen: float = 1.0
    unseen: float = 0.0


class Negatives(NamedTuple):
    """Classes that join a batch.

    Attributes:
        classes: (n,) class indices, no two alike and none of them a label of the batch.
        counted: (n,) which of them take part; their number differs between batches, n does not.
    """

    classes: Tensor
    counted: Tensor


class DPC(Wrapper):
    """Dual-Prompt Collaboration: a prompt learner, then a second copy of its prompts trained on hard negatives.

    In the first stage the method inside learns its prompts P as published. In the second one P is frozen and its copy
    P' is trained. For each image of a batch the `topk` classes that P scores highest, without the labels of the batch,
    are hard negatives; an image that adds fewer than two classes to the batch gets random ones to make two. One
    training image of each of these classes joins the batch. With f_i the unit image feature and w_i the unit text
    feature of the class of image i, both with P', of N images, and s CLIP's scale,

        loss = 1 / (2 omega_b N) sum_i (-log softmax_j(s f_i . w_j)_i - log softmax_j(s f_j . w_i)_i)

    Two images of one class in a batch count as different. Classes that were trained on are scored with the prompts
    `seen P' + (1 - seen) P`, others with `unseen P' + (1 - unseen) P`: with the published 0, as by the method inside.
    The prompts are the tokens that enter the towers. The recipe is that of the method inside, with the published 20
    epochs more and batches of at most 4 images. Both stages have a schedule of their own, their share of the epochs is
    the training setting `cycles`.

    Official code (JREion/DPC, CoOp and PromptKD inside) sets out to train M = omega_b P' + (1 - omega_b) P and to
    compute P' from it. Its P is the same memory as M, so that P' = M at all times, and omega_b only divides the
    gradient, as here. It scores the classes trained on with P' alone, while its paper mixes in P: hence `seen` is 1.
    Its random negatives are never the first or the last class, and may take the place of a hard negative of a later
    image. It draws images of the negatives from lists of training images that are not in the repository and need not be
    the few of the run; here they are the run's own training images, each in one augmented view per epoch. Its stages
    are two runs with a batch size each.
    """

    Config = DPCConfig
    api_version = 2
    whole_batch = True
    paper = "Li et al., DPC: Dual-Prompt Collaboration for Tuning Vision-Language Models, CVPR 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Build the method inside, and another one for the parallel prompts.

        Raises:
            DataError: an option is out of range, or the method inside does not only inject tokens.
        """
        c = self.config
        if c.topk < 1 or c.weight <= 0:
            raise DataError(f"topk is {c.topk} and weight is {c.weight}; topk is at least 1, weight above 0.")
        if not (0 <= c.seen <= 1 and 0 <= c.unseen <= 1):
            raise DataError(f"seen is {c.seen} and unseen is {c.unseen}; both are from 0 to 1.")
        super().build(backbone, task)
        if type(self.inner).route is not Method.route:
            raise DataError(f"DPC needs a method that scores classes by CLIP's logits; '{c.wraps}' does otherwise.")
        self.parallel = type(self.inner)(self.inner.config, backbone, task)
        try:
            list(self.hooks())
        except VlmadaptError as error:
            raise DataError(f"DPC needs a method that learns prompts alone; of '{c.wraps}': {error}") from error

    @classmethod
    def recipe_for(cls, config: Any) -> Recipe:
        """The recipe of the method inside, and a second stage.

        Raises:
            DataError: that method has no training of a single stage of epochs.
        """
        own = super().recipe_for(config)
        if own.cycles != 1 or own.steps_per_shot or not own.epochs:
            raise DataError(f"DPC adds a stage to a training in epochs; '{config.wraps}' is trained otherwise.")
        epochs = own.epochs + SECOND_STAGE
        shares = own.epochs / epochs, SECOND_STAGE / epochs
        return replace(own, epochs=epochs, cycles=shares, batch_size=min(own.batch_size, 4))

    @property
    def second_stage(self) -> bool:
        """Whether the parallel prompts are being trained."""
        return self.cycle.number > 0

    @property
    def draws_images(self) -> bool:
        """Whether steps need images of the hard negatives."""
        return self.second_stage

    # -- prompts ------------------------------------------------------------------------------------------------------

    def hooks(self) -> Iterable[Hook]:
        """The prompts of the classes trained on."""
        return Mixture(self, self.config.seen).hooks()

    def trained(self, fwd: ForwardPass) -> ForwardPass:
        """The pass with the prompts that this stage trains."""
        method = self.parallel if self.second_stage else self.inner
        return fwd.once("trained", lambda: fwd.other(hooks=method.hooks()))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The logits with the prompts of this role; in training steps with those that are trained."""
        if self.training:
            return self.trained(fwd).logits()
        if role is SEEN:
            return self.logits(fwd)
        return self.logits(fwd.other(method=Mixture(self, self.config.unseen)))

    def logits(self, fwd: ForwardPass) -> Tensor:
        """CLIP's logits (B, classes).

        Raises:
            DataError: a class has several text features, or one for each image.
        """
        if fwd.plan.text_differs_by_image or fwd.text().ndim != 2:
            raise DataError(f"DPC needs one text feature for each class; '{self.config.wraps}' has more.")
        return fwd.logits()

    # -- training -----------------------------------------------------------------------------------------------------

    def prepare(self, support: Support) -> None:
        """Prepare the method inside."""
        super().prepare(support)
        self.copy_prompts()

    def cycle_start(self, cycle: int, support: Support) -> None:
        """Start the method inside with the first stage."""
        if not cycle:
            self.inner.cycle_start(cycle, support)

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Start an epoch of the method inside, in the first stage."""
        if not self.second_stage:
            self.inner.epoch_start(epoch, self.cycle.length)

    def epoch_end(self, epoch: int, epochs: int) -> None:
        """End an epoch of the method inside, in the first stage, and copy its prompts."""
        if not self.second_stage:
            self.inner.epoch_end(epoch, self.cycle.length)
            self.copy_prompts()

    def copy_prompts(self) -> None:
        """Set the parallel prompts to the tuned ones."""
        self.parallel.load_state_dict(self.inner.state_dict())

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """A step with the losses of this stage; in the first one the method inside may have a step of its own."""
        if self.second_stage or type(self.inner).training_step is Method.training_step:
            return Method.training_step(self, fwd, trainer)
        return self.inner.training_step(self.trained(fwd), trainer)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """The loss terms of the method inside, then the contrast with hard negatives."""
        trained = self.trained(fwd)
        if not self.second_stage:
            return self.inner.losses(trained)
        with torch.no_grad():
            tuned = fwd.other(hooks=self.inner.hooks()).logits()
        return self.contrast(trained, self.choose(tuned, fwd.labels))

    def choose(self, tuned: Tensor, labels: Tensor) -> Negatives:
        """The classes that join a batch, from its logits (B, classes) with the tuned prompts and its labels."""
        return hard_negatives(tuned, labels, self.config.topk)

    def contrast(self, fwd: ForwardPass, negatives: Negatives) -> Iterator[LossTerm]:
        """Contrastive loss of the batch and an image of each negative class."""
        drawn = fwd.images_of(negatives.classes)
        labels = torch.cat([fwd.labels, negatives.classes])
        counted = torch.cat([torch.ones_like(fwd.labels, dtype=torch.bool), negatives.counted])
        similarity = fwd.scale * torch.cat([fwd.image(), drawn.image()]) @ fwd.text()[labels].T
        yield LossTerm("contrast", 1 / self.config.weight, contrastive_loss(similarity, counted))


class Mixture(nn.Module):
    """The prompts of a role: a weighted mean of tuned and parallel ones.

    Args:
        dpc: the method.
        share: weight of the parallel prompts.
    """

    def __init__(self, dpc: DPC, share: float):
        super().__init__()
        self.tuned, self.parallel, self.share = dpc.inner, dpc.parallel, share

    def hooks(self) -> Iterable[Hook]:
        """The hooks of the method inside, with mixed tokens."""
        return mixed_hooks(self.tuned.hooks(), self.parallel.hooks(), self.share)


def hard_negatives(scores: Tensor, labels: Tensor, topk: int) -> Negatives:
    """Choose the hard negatives of a batch, and random ones where an image adds too few.

    Args:
        scores: (B, classes).
        labels: (B,).
        topk: how many of the highest scores make a class a hard negative.
    """
    images, classes = scores.shape
    hard = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(min(topk, classes)).indices, True)
    hard = hard.index_fill(1, labels, False)
    added = hard & (hard.cumsum(0) == 1)  # by the first image that has the class among its own
    missing = (FEWEST - added.sum(1)).clamp(min=0).sum()
    chosen = hard.any(0)
    first = torch.rand(classes, device=scores.device) + chosen.float()
    order = first.index_fill(0, labels, -1.0).topk(max(1, min(classes - 1, images * max(topk, FEWEST))))
    places = torch.arange(len(order.indices), device=scores.device)
    return Negatives(order.indices, (places < chosen.sum() + missing) & (order.values >= 0))


def contrastive_loss(similarity: Tensor, counted: Tensor) -> Tensor:
    """Mean of the cross entropies of images among texts and of texts among images, text i belonging to image i.

    Args:
        similarity: (N, N) logits of images and texts.
        counted: (N,) which pairs take part; at least one.
    """
    apart = ~(counted[:, None] & counted) & ~torch.eye(len(counted), dtype=torch.bool, device=counted.device)
    masked = similarity.float().masked_fill(apart, -torch.inf)  # a pair that takes no part is alone: its loss is 0
    own = torch.arange(len(counted), device=counted.device)
    images, texts = (F.cross_entropy(logits, own, reduction="sum") for logits in (masked, masked.T))
    return (images + texts) / (2 * counted.sum())

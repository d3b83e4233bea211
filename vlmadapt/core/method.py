"""What a method is: trainable tensors and a statement of where they touch the backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.forward import Forward
from vlmadapt.core.hooks import IMAGE, TEXT, Hook, Side
from vlmadapt.core.plan import untouchable
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import BackboneError
from vlmadapt.registry import API_VERSION

Term = tuple[str, float, Tensor]
"""A named loss term: its name, its weight, its unweighted value."""


class Role(StrEnum):
    """What a router is told of the classes it answers for."""

    SEEN = "seen"
    UNSEEN = "unseen"
    UNKNOWN = "unknown"


SEEN, UNSEEN, UNKNOWN = Role.SEEN, Role.UNSEEN, Role.UNKNOWN


@dataclass(frozen=True)
class Task:
    """The classes a method is built for and the texts that describe them."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]


class Trainer(Protocol):
    """What a training step may ask of the loop that calls it."""

    lr: float
    """The learning rate of this step."""

    def minimise(self, loss: Tensor) -> None:
        """Gradients of a loss, averaged over processes, then one step of the optimiser."""

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients of a loss, averaged over processes, by trainable parameter in order; nothing is stepped."""

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser with these gradients."""


class Support(Protocol):
    """The labelled images a method may look at before training; never a test image."""

    def passes(self, augmented: bool, times: int = 1) -> Iterator[Iterator[Forward]]:
        """`times` passes over the training images in fixed order, each in batches, with or without augmentation."""

    def validation(self) -> Iterator[Forward]:
        """The validation images of the training classes, in batches, un-augmented; none where there are none."""


class Method(nn.Module):
    """Base class of all methods. A subclass states `Config`, `build` and, as needed, the hooks below.

    A method holds trainable parameters only (and buffers that belong to its state); the backbone stays outside.
    Nothing that derives from class names may be kept: classes are given to every forward pass.

    Attributes:
        Config: a dataclass of documented options, the published values as defaults.
        recipe: the published training settings.
        paper: where it was published.
        touches: the towers it works inside; a backbone that does not allow it is refused before any work starts.
        whole_batch: images of a batch are compared with each other, so that every process needs all of them.
        api_version: of the plugin API it is written for, a plain number; by default the one of this vlmadapt.
        limitations: checks of the conformance kit (`vlmadapt.testing`) that it cannot pass, each with the reason.
    """

    Config: ClassVar[type[Any]]
    recipe: ClassVar[Recipe] = Recipe()
    paper: ClassVar[str] = ""
    touches: ClassVar[tuple[Side, ...]] = (TEXT, IMAGE)
    whole_batch: ClassVar[bool] = False
    api_version: ClassVar[int] = API_VERSION
    limitations: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: Any, backbone: Backbone, task: Task):
        """Build the method for a backbone.

        Raises:
            BackboneError: a tower that the method works inside cannot be touched in this backbone.
        """
        super().__init__()
        for side in self.touches:
            if not backbone.tower(side).blocks:
                raise BackboneError(untouchable(side, backbone.tower(side)))
        self.config = config
        self.build(backbone, task)

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the trainable parameters."""

    @property
    def answers_unseen(self) -> bool:
        """Whether it has an answer for classes it was not trained on; if not, protocols that ask are refused."""
        return True

    def hooks(self) -> Iterable[Hook]:
        """Where the towers are touched: `prompt`, `inject`, `adapt`, `head`, `teacher`. Read anew for every pass."""
        return ()

    def losses(self, x: Forward) -> Iterable[Term]:
        """Loss terms of a labelled batch; their weighted sum is minimised."""
        yield "class", 1.0, F.cross_entropy(x.logits(), x.labels)

    def route(self, x: Forward, role: Role) -> Tensor:
        """Scores (B, classes) that answer for classes of this role."""
        return x.logits()

    def prepare(self, support: Support) -> None:
        """Called once before training, without gradients: build a cache from the support set, solve in closed form."""

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Called before epoch `epoch` (from 0) of `epochs`."""

    def training_step(self, x: Forward, trainer: Trainer) -> list[Term]:
        """One step on a labelled batch; returns the terms to be logged."""
        terms = list(self.losses(x))
        trainer.minimise(total(terms))
        return terms

    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Called behind epoch `epoch` (from 0) of `epochs`, for averaging weights and the like."""

    def finish(self, support: Support) -> None:
        """Called once behind training, without gradients: choose what is left to choose on the validation images."""


def total(terms: Iterable[Term]) -> Tensor:
    """The weighted sum of loss terms."""
    weighted = [weight * value for _, weight, value in terms]
    return sum(weighted[1:], start=weighted[0])


def trainable_count(method: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in method.parameters() if p.requires_grad)

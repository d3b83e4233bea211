"""Base class of methods: trainable tensors, and the hooks by which they touch the backbone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Hook
from vlmadapt.core.plan import untouchable
from vlmadapt.core.recipe import Cycle, Recipe
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.errors import BackboneError, PluginError
from vlmadapt.registry.tracks import FEW_SHOT
from vlmadapt.roles import Role


class LossTerm(NamedTuple):
    """A term of the loss; the weighted sum of all terms is minimised, each value is logged under its name.

    Attributes:
        name: name in logs and metrics.
        weight: weight in the sum, 0 for a value that is only logged.
        value: unweighted scalar.
    """

    name: str
    weight: float
    value: Tensor


@dataclass(frozen=True)
class Task:
    """The classes a method is built for and the texts that describe them."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]


class Teacher(Protocol):
    """What a run checks of a finished one that its method learns from; `trained_run` opens one."""

    @property
    def folder(self) -> str:
        """The run's folder."""

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """Names of the classes whose labels it was trained on."""


class Trainer(Protocol):
    """Interface of the optimiser that a training step may use."""

    lr: Tensor
    """Learning rate of this step, a scalar on the device."""

    def backward_and_step(self, loss: Tensor) -> None:
        """Backward pass of a loss, gradients averaged over processes, then one step of the optimiser."""

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients of a loss for each trainable parameter in order, averaged over processes, without a step."""

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser with these gradients."""


class Support(Protocol):
    """Labelled images that a method may use before and after training; never test images."""

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """`times` epochs of the training images in fixed order, each in batches, with or without augmentation."""

    def validation(self) -> Iterator[ForwardPass]:
        """Validation images of the training classes in batches, without augmentation; may be empty."""


def enter_cycle(method: nn.Module, cycle: Cycle) -> None:
    """Tell a method, and the methods inside it, which part of the training is under way."""
    for module in method.modules():
        if isinstance(module, Method):
            module.cycle = cycle


class Method(nn.Module):
    """Base class of all methods. A subclass defines `Config`, `build` and, as needed, the hooks below.

    A method holds trainable parameters only (and buffers that belong to its state), not the backbone. Every forward
    pass has its own class names; nothing derived from them may be kept.

    Attributes:
        Config: dataclass of documented options, the published values as defaults.
        recipe: published training settings.
        paper: publication, as cited.
        touches: towers the method works inside; a backbone without access to one is refused before any work starts.
        learns: False if it takes nothing from training images and draws nothing at random, as zero-shot methods, so
            that one run stands for all seeds and numbers of shots.
        track: what it uses besides the labelled images and class names, a plain text: 'few-shot' for nothing,
            'descriptions' of the classes, 'test-time' for other test images or views, 'transductive' for images and
            names of the classes that are tested, without labels, or a text of its own. Methods of different tracks are
            neither ranked nor tested against each other.
        unlabelled: True if it trains on the training images of all classes of the data, those tested as unseen too, and
            is given no label. `trained_classes` are then all of them, `fwd.labels` raises, and there are no validation
            images. Its track is not 'few-shot'.
        whole_batch: True if the loss compares images of a batch, so that every process needs all of them.
        views_per_step: augmented views of each image in a training step; `fwd.view(1)` is the pass of the second one.
        plain_view: True if the last of these views is the image as in tests, without augmentation.
        dynamic_step: True if the operations of a training step differ between steps (random subsets, iterations
            until convergence), so that it cannot be captured and replayed on a GPU.
        streams: True if an answer depends on the test images before it. Such a method is given all test images one
            after another in an order drawn by the seed, see `stream_start`.
        api_version: version of the plugin API that the method is written for, a plain number.
        trained_classes: names of the classes that it is trained on, set by the core.
        cycle: the part of the training that is under way: its number, first epoch and length, set by the core.
        limitations: checks of the conformance kit (`vlmadapt.testing`) that it cannot pass, each with the reason.
    """

    Config: ClassVar[type[Any]]
    recipe: ClassVar[Recipe] = Recipe()
    paper: ClassVar[str] = ""
    touches: ClassVar[tuple[Side, ...]] = (TEXT, IMAGE)
    learns: ClassVar[bool] = True
    track: ClassVar[str] = FEW_SHOT
    whole_batch: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = False
    views_per_step: ClassVar[int] = 1
    plain_view: ClassVar[bool] = False
    dynamic_step: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    api_version: ClassVar[int] = 1  # for methods that state none: they were written before version 2
    limitations: ClassVar[Mapping[str, str]] = {}
    cycle: Cycle = Cycle(number=0, start=0, length=1)

    def __init__(self, config: Any, backbone: Backbone, task: Task):
        """Build the method for a backbone.

        Raises:
            BackboneError: the method works inside a tower that this backbone does not open.
        """
        super().__init__()
        for side in self.touches:
            if not backbone.tower(side).blocks:
                raise BackboneError(untouchable(side, backbone.tower(side)))
        self.config = config
        self.trained_classes = task.classes
        self.build(backbone, task)

    @classmethod
    def recipe_for(cls, config: Any) -> Recipe:
        """The published training settings with these options: `recipe`, unless they depend on the options."""
        return cls.recipe

    @classmethod
    def track_for(cls, config: Any) -> str:
        """The track with these options: `track`, unless it depends on the options."""
        return cls.track

    @classmethod
    def limitations_for(cls, config: Any) -> Mapping[str, str]:
        """Checks that it cannot pass with these options: `limitations`, unless they depend on the options."""
        return cls.limitations

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the trainable parameters."""

    @property
    def answers_unseen(self) -> bool:
        """Whether it can score classes it was not trained on; if not, protocols with unseen classes are refused."""
        return True

    @property
    def test_views(self) -> int:
        """Views of each test image: 1 is the image itself, more are it and random crops of it, some of them flipped.

        With n views a pass of `route` has n rows for each image, one after another; it returns one row for each image.
        """
        return 1

    @property
    def test_augmentation(self) -> Literal["crop", "augmix"]:
        """How views of test images differ: random crops and flips, or these mixed by AugMix with changed copies."""
        return "crop"

    @property
    def reads_descriptions(self) -> bool:
        """Whether it uses the sentences that describe the classes (`--descriptions`); runs without them are refused."""
        return False

    @property
    def teachers(self) -> Sequence[Teacher]:
        """Finished runs that it learns from; those trained on labels that this run must not know are refused."""
        return ()

    @property
    def draws_images(self) -> bool:
        """Whether the steps of this cycle ask for training images of classes that they choose, `fwd.images_of`.

        They are then on the device, each in one augmented view, which is another one in every epoch.
        """
        return False

    def hooks(self) -> Iterable[Hook]:
        """Declare where the towers are touched: `prompt`, `inject`, `adapt`, `head`, `teacher`; for every pass."""
        return ()

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Loss terms of a labelled batch; their weighted sum is minimised."""
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Inference router: scores (B, classes) for classes of this role."""
        return fwd.logits()

    def certainty(self, fwd: ForwardPass, role: Role) -> Tensor | None:
        """How certain it is (B,) that an image shows one of the classes, for `predict --reject_by method`.

        None: it has no measure of its own; that of the scores is left.
        """
        return None

    def stream_start(self, names: Sequence[str], role: Role) -> None:
        """Called before each stream of test images of these classes, if `streams`: forget the stream before.

        What the stream changes are buffers made here with `register_buffer(..., persistent=False)`: they are moved to
        the device, and saved with a stream but not with the adapter. `route` then gets the images in order, in batches
        of any size, under `no_grad` (`torch.enable_grad()` in it allows gradients). An answer may depend on earlier
        images, not on how the stream is cut into batches.
        """

    def prepare(self, support: Support) -> None:
        """Called once before training under `no_grad`, to build a cache from the support set for example."""

    def cycle_start(self, cycle: int, support: Support) -> None:
        """Called before each of the recipe's `cycles` (from 0), under `no_grad`: start another stage of training."""

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Called before epoch `epoch` (from 0) of `epochs`."""

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """One training step on a labelled batch; returns the terms to log."""
        terms = list(self.losses(fwd))
        trainer.backward_and_step(total(terms))
        return terms

    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Called after epoch `epoch` (from 0) of `epochs`, to average weights for example."""

    def finish(self, support: Support) -> None:
        """Called once after training under `no_grad`, to tune remaining hyperparameters on the validation images."""


def total(terms: Iterable[LossTerm]) -> Tensor:
    """The weighted sum of loss terms.

    Raises:
        PluginError: there are no terms.
    """
    weighted = [weight * value for _, weight, value in terms]
    if not weighted:
        raise PluginError("the method's `losses` yields no term, so there is nothing to minimise.")
    return sum(weighted[1:], start=weighted[0])


def trainable_count(method: nn.Module, trained: Collection[str] = ()) -> int:
    """Number of scalars that are trained now, or are in the parameters named, which were trained before."""
    return sum(p.numel() for name, p in method.named_parameters() if p.requires_grad or name in trained)

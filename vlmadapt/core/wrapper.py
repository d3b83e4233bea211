"""Base class of methods around another registered method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.build import make_config, method_class
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Hook
from vlmadapt.core.method import LossTerm, Method, Support, Task, Teacher, Trainer
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import PluginError, SettingError
from vlmadapt.roles import Role


@dataclass
class WrapperConfig:
    """Options of a method around another one.

    Args:
        wraps: registered name of the method inside.
        options: options of the method inside; missing ones keep their published values.
    """

    wraps: str
    options: dict[str, Any] = field(default_factory=dict)


class Wrapper(Method):
    """Base of methods around another registered method, `self.inner`, which is named by the options.

    Everything is forwarded to the inner method: a subclass overrides what differs and calls `super()` or `self.inner`
    for the rest. Its training settings are those published for the inner method. Parameters of the inner method are
    trained and saved with the wrapper's own.

    Attributes:
        inner: the method inside.
        inner_steps: whether the inner method has a training step of its own.
    """

    Config = WrapperConfig
    touches = ()  # the inner method refuses a backbone for itself
    inner: Method
    inner_steps: bool

    def build(self, backbone: Backbone, task: Task) -> None:
        """Build the inner method.

        Raises:
            PluginError: there is no such method, it trains on images without labels, or it has a training step of its
                own that would not see the losses that this class changes.
            SettingError: one of its options is unknown or has a value that it cannot have.
        """
        inner = method_class(self.config.wraps)
        own_losses = type(self).losses is not Wrapper.losses and type(self).training_step is Wrapper.training_step
        self.inner_steps = has_own_step(inner, self.config.options)
        if own_losses and self.inner_steps:
            raise PluginError(
                f"{type(self).__name__} changes the losses of '{self.config.wraps}', which has a training step of its "
                "own that does not use them; wrap another method."
            )
        if inner.unlabelled:
            raise PluginError(
                f"'{self.config.wraps}' trains on images without labels, which {type(self).__name__} does not have."
            )
        self.inner = inner(make_config(inner, self.config.options), backbone, task)
        for name in ("touches", "whole_batch", "dynamic_step", "streams", "plain_view"):
            setattr(self, name, getattr(type(self), name) or getattr(self.inner, name))
        setattr(self, "views_per_step", max(type(self).views_per_step, self.inner.views_per_step))  # noqa: B010

    @classmethod
    def recipe_for(cls, config: Any) -> Recipe:
        """The training settings published for the inner method.

        Raises:
            SettingError: a wrapper would wrap itself.
        """
        inner = method_class(config.wraps)
        if issubclass(inner, cls):
            raise SettingError(f"{cls.__name__} cannot wrap '{config.wraps}', which is a {cls.__name__} itself.")
        return inner.recipe_for(make_config(inner, config.options))

    @classmethod
    def track_for(cls, config: Any) -> str:
        """The inner method's track."""
        inner = method_class(config.wraps)
        return inner.track_for(make_config(inner, config.options))

    @classmethod
    def limitations_for(cls, config: Any) -> Mapping[str, str]:
        """The checks that the inner method cannot pass, and those of the wrapper's own `limitations`."""
        inner = method_class(config.wraps)
        return {**inner.limitations_for(make_config(inner, config.options)), **cls.limitations}

    @property
    def answers_unseen(self) -> bool:
        """Whether the inner method scores classes it was not trained on."""
        return self.inner.answers_unseen

    @property
    def test_views(self) -> int:
        """Views of each test image that the inner method asks for."""
        return self.inner.test_views

    @property
    def reads_descriptions(self) -> bool:
        """Whether the inner method uses sentences that describe the classes."""
        return self.inner.reads_descriptions

    @property
    def test_augmentation(self) -> Literal["crop", "augmix"]:
        """How the inner method's views of test images differ."""
        return self.inner.test_augmentation

    @property
    def teachers(self) -> Sequence[Teacher]:
        """The finished runs that the inner method learns from."""
        return self.inner.teachers

    @property
    def draws_images(self) -> bool:
        """Whether the inner method's steps draw training images by class."""
        return self.inner.draws_images

    def hooks(self) -> Iterable[Hook]:
        """The inner method's hooks."""
        return self.inner.hooks()

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """The inner method's loss terms."""
        return self.inner.losses(fwd)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The inner method's scores (B, classes)."""
        return self.inner.route(fwd, role)

    def certainty(self, fwd: ForwardPass, role: Role) -> Tensor | None:
        """The inner method's certainty (B,)."""
        return self.inner.certainty(fwd, role)

    def stream_start(self, names: Sequence[str], role: Role) -> None:
        """Start a stream of the inner method."""
        self.inner.stream_start(names, role)

    def prepare(self, support: Support) -> None:
        """Prepare the inner method."""
        self.inner.prepare(support)

    def cycle_start(self, cycle: int, support: Support) -> None:
        """Start a cycle of the inner method."""
        self.inner.cycle_start(cycle, support)

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Start an epoch of the inner method."""
        self.inner.epoch_start(epoch, epochs)

    def training_step(self, fwd: ForwardPass, trainer: Trainer) -> list[LossTerm]:
        """The inner method's own step if it has one, otherwise a step with this method's losses."""
        if self.inner_steps:
            return self.inner.training_step(fwd, trainer)
        return super().training_step(fwd, trainer)

    def epoch_end(self, epoch: int, epochs: int) -> None:
        """End an epoch of the inner method."""
        self.inner.epoch_end(epoch, epochs)

    def finish(self, support: Support) -> None:
        """Finish the inner method."""
        self.inner.finish(support)


def has_own_step(method: type[Method], options: Mapping[str, Any]) -> bool:
    """Whether a method, or the one inside it, does something else in a training step than minimise its `losses`."""
    if issubclass(method, Wrapper) and method.training_step is Wrapper.training_step:
        config = make_config(method, options)
        return has_own_step(method_class(config.wraps), config.options)
    return method.training_step is not Method.training_step

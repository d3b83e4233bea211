"""Base class of methods around another registered method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.build import make_config, method_class
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Hook
from vlmadapt.core.method import LossTerm, Method, Support, Task, Trainer
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
    """

    Config = WrapperConfig
    touches = ()  # the inner method refuses a backbone for itself
    inner: Method

    def build(self, backbone: Backbone, task: Task) -> None:
        """Build the inner method.

        Raises:
            PluginError: there is no such method, or it has a training step of its own that would not see the losses
                that this class changes.
            SettingError: one of its options is unknown or has a value that it cannot have.
        """
        inner = method_class(self.config.wraps)
        own_losses = type(self).losses is not Wrapper.losses and type(self).training_step is Wrapper.training_step
        if own_losses and inner.training_step is not Method.training_step:
            raise PluginError(
                f"{type(self).__name__} changes the losses of '{self.config.wraps}', which has a training step of its "
                "own that does not use them; wrap another method."
            )
        self.inner = inner(make_config(inner, self.config.options), backbone, task)
        for name in ("touches", "whole_batch", "dynamic_step", "streams"):
            setattr(self, name, getattr(self.inner, name))

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

    def hooks(self) -> Iterable[Hook]:
        """The inner method's hooks."""
        return self.inner.hooks()

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """The inner method's loss terms."""
        return self.inner.losses(fwd)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The inner method's scores (B, classes)."""
        return self.inner.route(fwd, role)

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
        if type(self.inner).training_step is Method.training_step:
            return super().training_step(fwd, trainer)
        return self.inner.training_step(fwd, trainer)

    def epoch_end(self, epoch: int, epochs: int) -> None:
        """End an epoch of the inner method."""
        self.inner.epoch_end(epoch, epochs)

    def finish(self, support: Support) -> None:
        """Finish the inner method."""
        self.inner.finish(support)

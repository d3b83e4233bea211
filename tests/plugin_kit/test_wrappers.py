"""Building on another method, by subclass and by wrapper, as docs/plugin-guide.md shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmadapt.errors import PluginError
from vlmadapt.plugin import (
    SEEN,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Role,
    Task,
    Wrapper,
    WrapperConfig,
    method_class,
)
from vlmadapt.testing import MethodUnderTest, run_checks

LAYERS = {"layers": [11, 12], "tokens": 2}


@dataclass
class EnsembleConfig:
    """Options of an ensemble.

    Args:
        mmrl: options of MMRL.
    """

    mmrl: dict[str, Any] = field(default_factory=lambda: dict(LAYERS))


class Ensemble(Method):
    """MMRL's scores averaged with frozen CLIP's."""

    Config = EnsembleConfig
    api_version = 2
    recipe = method_class("mmrl").recipe

    def build(self, backbone: Backbone, task: Task) -> None:
        inner = method_class("mmrl")
        self.inner = inner(inner.Config(**self.config.mmrl), backbone, task)

    def hooks(self) -> Iterable[Hook]:
        return self.inner.hooks()

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        return self.inner.losses(fwd)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return (self.inner.route(fwd, role) + fwd.zero_shot.logits) / 2


class Louder(method_class("coop")):  # type: ignore[misc]  # a class found at run time
    """CoOp with twice its scores."""

    api_version = 2

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return 2 * super().route(fwd, role)


def test_a_wrapper_conforms() -> None:
    results = list(run_checks(MethodUnderTest(Ensemble), quick=True))
    assert not [result for result in results if not result.ok]


def test_a_wrapper_trains_what_it_wraps_and_adds_its_own_scores() -> None:
    tested = MethodUnderTest(Ensemble)
    inner = MethodUnderTest("mmrl", LAYERS)
    wrapped, alone = tested.fit(), inner.fit()
    fwd = wrapped.forward(tested.shots(seed=2).images[:4], tested.shots().names)
    with torch.no_grad():
        expected = (inner.scores(alone) + fwd.zero_shot.logits) / 2
    torch.testing.assert_close(tested.scores(wrapped, role=SEEN), expected, rtol=1e-4, atol=1e-4)


def test_a_subclass_shares_what_it_does_not_override() -> None:
    louder, coop = MethodUnderTest(Louder, {"tokens": 2}), MethodUnderTest("coop", {"tokens": 2})
    torch.testing.assert_close(louder.scores(louder.fit()), 2 * coop.scores(coop.fit()), rtol=1e-4, atol=1e-4)


@dataclass
class PulledConfig(WrapperConfig):
    """Options of a wrapper.

    Args:
        wraps: registered name of the method inside.
        options: options of that method.
    """

    wraps: str = "coop"


class Pulled(Wrapper):
    """Any method with its scores pulled towards frozen CLIP's, in training and in prediction."""

    Config = PulledConfig
    api_version = 2

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        yield from super().losses(fwd)
        yield LossTerm("pull", 1.0, (super().route(fwd, SEEN) - fwd.zero_shot.logits).square().mean())

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return (super().route(fwd, role) + fwd.zero_shot.logits[:: self.test_views]) / 2


def test_a_wrapper_takes_over_what_the_inner_method_needs_of_a_run() -> None:
    outer = MethodUnderTest(Pulled, {"wraps": "coprompt"})
    method = outer.build()
    assert (method.views_per_step, method.reads_descriptions) == (2, True)
    assert "pull" in outer.trace.terms[0]
    voting = MethodUnderTest(Pulled, {"wraps": "zero", "options": {"views": 4}})
    assert voting.scores(voting.fit()).shape == (4, 5)


def test_losses_of_a_wrapper_around_a_wrapper_are_used_if_the_innermost_method_uses_losses() -> None:
    around = {"wraps": "wise-ft", "options": {"wraps": "coop", "options": {"tokens": 2}}}
    assert "pull" in MethodUnderTest(Pulled, around).trace.terms[0]
    around["options"] = {"wraps": "prograd"}
    with pytest.raises(PluginError, match="'wise-ft', which has a training step of its own"):
        MethodUnderTest(Pulled, around).build()


def test_a_wrapper_hands_on_every_hook_that_a_method_can_define() -> None:
    """A hook added to `Method` and forgotten here would give the method inside another behaviour, without a word."""
    hooks = {
        name for name, value in vars(Method).items() if callable(value) or isinstance(value, property | classmethod)
    }
    own = {"build", "__init__"}
    assert hooks - own <= vars(Wrapper).keys()


def test_a_wrapper_has_the_limitations_of_the_method_inside() -> None:
    around = MethodUnderTest("wise-ft", {"wraps": "zero"})
    assert "added-class" in around.cls.limitations_for(around.config)
    assert "added-class" not in MethodUnderTest("wise-ft").cls.limitations_for(MethodUnderTest("wise-ft").config)

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from vlmadapt.errors import DataError, PluginError, SettingError
from vlmadapt.plugin import ForwardPass, LossTerm, Recipe, Wrapper, method_class
from vlmadapt.testing import MethodUnderTest


def fitted(wraps: str, alpha: float) -> torch.Tensor:
    tested = MethodUnderTest("wise-ft", {"wraps": wraps, "alpha": alpha})
    return tested.scores(tested.fit())


def test_parameters_are_the_weighted_mean_of_start_and_trained() -> None:
    start = MethodUnderTest("prolip").build().projection.difference
    trained = MethodUnderTest("prolip").fit().method.projection.difference
    averaged = MethodUnderTest("wise-ft", {"alpha": 0.25}).fit().method.inner.projection.difference
    torch.testing.assert_close(averaged, 0.75 * start + 0.25 * trained)


@pytest.mark.parametrize("wraps", ["prolip", "taskres"])
def test_alpha_1_is_the_method_itself_and_alpha_0_zero_shot_clip(wraps: str) -> None:
    alone = MethodUnderTest(wraps)
    torch.testing.assert_close(fitted(wraps, 1.0), alone.scores(alone.fit()))
    zero_shot = MethodUnderTest("clip")
    torch.testing.assert_close(fitted(wraps, 0.0), zero_shot.scores(zero_shot.fit()), rtol=1e-4, atol=1e-4)


def test_a_method_that_sees_two_views_of_an_image_is_wrapped() -> None:
    options = {"tokens": 2, "depth": 2}
    alone = MethodUnderTest("coprompt", options)
    wrapped = MethodUnderTest("wise-ft", {"wraps": "coprompt", "alpha": 1.0, "options": options})
    torch.testing.assert_close(wrapped.scores(wrapped.fit()), alone.scores(alone.fit()))


def test_another_alpha_is_tried_with_a_trained_run() -> None:
    half = MethodUnderTest("wise-ft", {"alpha": 0.5}).fit().method
    other = MethodUnderTest("wise-ft", {"alpha": 0.9})
    loaded = other.build(seed=3)
    loaded.load_state_dict(half.state_dict())
    torch.testing.assert_close(other.scores(other.classifier(loaded)), fitted("prolip", 0.9))


def test_training_settings_are_those_of_the_method_inside() -> None:
    for name in ("prolip", "mmrl"):
        tested = MethodUnderTest("wise-ft", {"wraps": name})
        assert tested.cls.recipe_for(tested.config) == method_class(name).recipe != Recipe()


def test_it_gets_the_views_and_descriptions_of_the_method_inside() -> None:
    tac = MethodUnderTest("wise-ft", {"wraps": "tac"}).build()
    assert (tac.views_per_step, tac.plain_view, tac.reads_descriptions) == (5, True, True)
    assert not MethodUnderTest("wise-ft").build().reads_descriptions


def test_around_a_method_that_reads_descriptions_it_is_one_of_that_track() -> None:
    tested = MethodUnderTest("wise-ft", {"wraps": "coprompt"})
    assert tested.build().reads_descriptions
    assert tested.cls.track_for(tested.config) == "descriptions"


def test_a_wrapper_of_itself_or_with_a_wrong_share_is_refused() -> None:
    with pytest.raises(SettingError, match="cannot wrap 'wise-ft'"):
        _ = MethodUnderTest("wise-ft", {"wraps": "wise-ft"}).recipe
    with pytest.raises(DataError, match=r"alpha is 1\.5"):
        MethodUnderTest("wise-ft", {"alpha": 1.5}).build()


def test_losses_that_the_inner_step_would_not_use_are_refused() -> None:
    class Heavier(Wrapper):
        """It doubles the losses."""

        Config = method_class("wise-ft").Config
        api_version = 2

        def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
            return [LossTerm(name, 2 * weight, value) for name, weight, value in self.inner.losses(fwd)]

    MethodUnderTest(Heavier, {"wraps": "coop"}).build()
    with pytest.raises(PluginError, match="'prograd', which has a training step of its own"):
        MethodUnderTest(Heavier, {"wraps": "prograd"}).build()

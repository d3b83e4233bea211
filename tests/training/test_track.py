"""Trackers get the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate import Accelerator

from tests.world import World, adapter, metrics
from vlmadapt import FitResult, VlmadaptError
from vlmadapt.errors import VlmadaptWarning
from vlmadapt.training.track import send


def test_tensorboard_gets_the_numbers_of_each_epoch_and_of_the_test(
    world: World, base_to_novel: FitResult, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = world.fit(tmp_path / "run", protocol="base-to-novel", track="tensorboard")
    events = EventAccumulator(str(run.folder / "tracking" / "vlmadapt"))
    events.Reload()
    for name in ("loss", "loss/ce", "train_accuracy"):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert logged == [(e["epoch"], pytest.approx(e[name], rel=1e-6)) for e in metrics(run.folder)]
    for kind, title in (("accuracy", "test"), ("zero_shot", "zero_shot")):
        (event,) = events.Scalars(f"{title}/novel")
        assert (event.step, event.value) == (3, pytest.approx(run.numbers[kind]["novel"], rel=1e-6))
    tracked, plain = adapter(run.folder), adapter(base_to_novel.folder)
    assert all(value.equal(plain[name]) for name, value in tracked.items())


@pytest.mark.parametrize(("name", "said"), [("tensorbord", "'tensorboard'"), ("aim", "pip install aim")])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(
    world: World, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(VlmadaptError, match=said):
        world.fit(tmp_path / "run", track=name)
    assert not (tmp_path / "run").exists()


def tracker(name: str, log: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(name=name, log=log)


def test_a_tracker_that_fails_in_between_is_left_out_and_the_others_go_on() -> None:
    got: list[tuple[dict[str, Any], int]] = []

    def refuse(numbers: dict[str, Any], step: int) -> None:
        raise ConnectionError(f"no server for step {step}\nin detail")

    trackers = [tracker("mlflow", refuse), tracker("wandb", lambda numbers, step: got.append((numbers, step)))]
    accelerator = cast(Accelerator, SimpleNamespace(trackers=trackers))
    with pytest.warns(
        VlmadaptWarning, match=r"--track mlflow failed .* here on: ConnectionError: no server for step 1\."
    ):
        send(accelerator, {"loss": 2.0}, 1)
    send(accelerator, {"loss": 1.0}, 2)
    assert got == [({"loss": 2.0}, 1), ({"loss": 1.0}, 2)]

"""The best epoch by validation accuracy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_resume import ANYTHING, STEPS, after_step, ask_to_stop
from tests.world import World, adapter, metrics, outcome
from vlmadapt import FitResult, VlmadaptError, fit
from vlmadapt.data.splits import ClassGroup
from vlmadapt.evaluation.accuracy import evaluate_group
from vlmadapt.roles import SEEN
from vlmadapt.runs.identity import run_identity
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.interrupt import Interrupted
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.training.select import ACCURACY

WILD = {"train": {"epochs": 4, "lr": 0.3, "optimizer": "sgd", "schedule": "constant"}}
"""Steps so large that the accuracy goes up and down."""


def run(world: World, out: Path, method: str, **changes: Any) -> FitResult:
    train = {**WILD["train"], **changes.pop("train", {})}
    return world.fit(out, method, train=train, **changes)


@pytest.fixture(scope="module", params=["mmrl", "clap"])
def selected(world: World, request: pytest.FixtureRequest) -> FitResult:
    """A method that touches the image tower, and one whose validation images pass it once."""
    return run(world, world.root / f"selected-{request.param}", request.param, select="best")


def test_the_adapter_is_that_of_the_epoch_with_the_highest_validation_accuracy(
    world: World, selected: FitResult, tmp_path: Path
) -> None:
    """A run that ends with that epoch has the same tensors, as the learning rate is constant."""
    method, epochs = selected.numbers["method"], metrics(selected.folder)
    accuracies = [epoch.pop(ACCURACY) for epoch in epochs]
    assert len(set(accuracies)) > 1
    best = selected.numbers["selected_epoch"]
    assert best == accuracies.index(max(accuracies)) + 1 < len(epochs)
    shorter = run(world, tmp_path / "short", method, train={"epochs": best})
    assert epochs[:best] == metrics(shorter.folder), "looking at validation images does not change the training"
    for name, value in adapter(shorter.folder).items():
        assert value.equal(adapter(selected.folder)[name])


def test_the_validation_accuracy_is_that_of_a_test_on_these_images(selected: FitResult) -> None:
    splits = Inputs.read(Run.open(selected.folder).settings()).splits()
    group = ClassGroup("val", SEEN, splits.classes, splits.val)
    found = evaluate_group(selected.classifier, group, Session.join(0))
    assert found.percent / 100 == max(epoch[ACCURACY] for epoch in metrics(selected.folder))


@pytest.mark.parametrize("selected", ["mmrl"], indirect=True)
def test_a_run_interrupted_after_its_best_epoch_selects_it_when_resumed(
    world: World, selected: FitResult, tmp_path: Path
) -> None:
    stop = STEPS * selected.numbers["selected_epoch"] + 1
    with after_step(stop, ask_to_stop), pytest.raises(Interrupted):
        run(world, tmp_path / "run", "mmrl", select="best")
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(selected.folder)


def test_without_validation_images_or_epochs_it_is_refused(world: World, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(world.pictures, tmp_path / "data" / part)
    with pytest.raises(VlmadaptError, match=r"'data' has none of the classes trained on.*Test images are never used"):
        run(world, tmp_path / "a", "mmrl", select="best", data=str(tmp_path / "data"))
    with pytest.raises(VlmadaptError, match="clip is not trained in epochs"):
        world.fit(tmp_path / "b", "clip", select="best")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_a_state_of_a_version_without_the_setting_still_fits(world: World, tmp_path: Path) -> None:
    last, best = (world.settings(tmp_path, select=name).resolved() for name in ("last", "best"))
    assert "select" not in run_identity(last, "0", {})
    assert run_identity(best, "0", {})["select"] == "best"

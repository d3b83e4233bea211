"""Methods that train on images without labels, and finished runs as teachers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.world import CLASSES, World, metrics
from vlmadapt import VlmadaptError, evaluate, load
from vlmadapt.core.adapter import save_adapter
from vlmadapt.errors import DataError
from vlmadapt.plugin import Backbone, ForwardPass, LossTerm, Method, Task, random_tokens
from vlmadapt.testing import MethodUnderTest

STUDENT = {"image_depth": 2, "image_tokens": 2}


@pytest.fixture(scope="module")
def teacher(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another method on the base classes."""
    run = world.fit(
        tmp_path_factory.mktemp("teacher") / "run", "promptsrc", protocol="base-to-novel", train={"epochs": 1}
    )
    return run.folder


@dataclass
class NoConfig:
    """No options."""


class Cheat(Method):
    """Asks for the labels that it says it does not need."""

    Config = NoConfig
    unlabelled = True

    def build(self, backbone: Backbone, task: Task) -> None:
        self.tokens = random_tokens(1, 1)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))


def test_a_method_that_trains_without_labels_cannot_read_any() -> None:
    with pytest.raises(ValueError, match="no labels"):
        MethodUnderTest(Cheat).fit()


def test_a_student_trains_on_all_classes_without_labels_and_keeps_its_teacher(
    world: World, teacher: Path, tmp_path: Path
) -> None:
    options = {**STUDENT, "teacher": str(teacher)}
    run = world.fit(tmp_path / "run", "promptkd", protocol="base-to-novel", shots=0, options=options)
    data = json.loads((run.folder / "data.json").read_text())
    assert set(data["classes"]) == set(CLASSES)
    assert {label for _, label in data["train"]} == {-1}
    assert {name.split("/")[0] for name, _ in data["train"]} == set(CLASSES)
    assert not data["val"]
    assert not (run.folder / "calibration.json").exists()
    assert all("train_accuracy" not in epoch and "loss/divergence" in epoch for epoch in metrics(run.folder))
    assert set(run.numbers["accuracy"]) >= {"base", "novel"}
    picture = next(iter(sorted(world.pictures.rglob("*.png"))))
    before = load(run.folder).predict(picture)
    assert before == run.predictor.predict(picture)


def test_a_student_is_not_loaded_with_another_teacher(world: World, teacher: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(teacher, copy)
    options = {**STUDENT, "teacher": str(copy)}
    run = world.fit(tmp_path / "run", "promptkd", protocol="base-to-novel", options=options, train={"epochs": 0})
    other = load(copy).classifier
    with torch.no_grad():
        next(other.method.parameters()).add_(1.0)
    save_adapter(copy / "adapter", "promptsrc", other.method, other.backbone, ["a photo of a {}."])
    with pytest.raises(VlmadaptError, match="not the teacher that PromptKD was trained with"):
        load(run.folder)


@pytest.mark.slow  # five runs; what is refused by class is in tests/evaluation/test_trained_run.py
def test_a_teacher_that_knows_what_is_tested_is_refused(world: World, tmp_path: Path) -> None:
    taught = {"train": {"epochs": 0}}
    every = world.fit(tmp_path / "every", "promptsrc", protocol="few-shot", **taught).folder
    options = {**STUDENT, "teacher": str(every)}
    with pytest.raises(VlmadaptError, match="labels of classes that are tested as unseen"):
        world.fit(tmp_path / "a", "promptkd", protocol="base-to-novel", options=options)
    student = world.fit(tmp_path / "few", "promptkd", protocol="few-shot", options=options, train={"epochs": 0}).folder
    with pytest.raises(VlmadaptError, match="labels of classes that are tested as unseen"):
        evaluate(student, protocol="base-to-novel")
    tested = world.fit(tmp_path / "tested", "promptsrc", protocol="train-only", shots=0, **taught).folder
    with pytest.raises(VlmadaptError, match=r"was trained on \d+ images that are tested"):
        world.fit(tmp_path / "b", "promptkd", protocol="few-shot", options={**STUDENT, "teacher": str(tested)})


def test_an_unfinished_run_is_no_teacher(world: World, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "adapter")
    with pytest.raises(DataError, match="is not finished"):
        world.fit(tmp_path / "run", "promptkd", options={**STUDENT, "teacher": str(tmp_path / "half")})


def test_a_wrapper_has_no_images_without_labels(world: World, tmp_path: Path) -> None:
    with pytest.raises(VlmadaptError, match="trains on images without labels"):
        world.fit(tmp_path / "run", "wise-ft", options={"wraps": "promptkd"})

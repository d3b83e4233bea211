"""Runs of methods that read class descriptions: kept with the run, refused where a class has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.world import DESCRIPTIONS, World
from vlmadapt import FitResult, evaluate, fit, load
from vlmadapt.core.adapter import read_config
from vlmadapt.errors import DataError, VlmadaptError


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    folder = tmp_path_factory.mktemp("described")
    file = folder / "descriptions.json"
    file.write_text(json.dumps(DESCRIPTIONS))
    found = world.fit(folder / "run", "mma++", descriptions=str(file), train={"epochs": 2})
    file.unlink()  # the run has its own copy
    return found


def test_a_finished_run_answers_the_same_without_the_file(run: FitResult, world: World) -> None:
    accuracies, _ = evaluate(run.folder)
    assert [a.percent for a in accuracies] == [g["correct"] / g["total"] * 100 for g in run.numbers["groups"]]
    assert read_config(run.folder / "adapter").descriptions == DESCRIPTIONS
    assert load(run.folder).classifier.descriptions == DESCRIPTIONS


def test_other_classes_need_descriptions(run: FitResult, world: World, tmp_path: Path) -> None:
    image = next(world.pictures.rglob("*.png"))
    with pytest.raises(DataError, match=r"1 of 2 classes \(moth\)"):
        list(load(run.folder, ["red_fox", "moth"]).predict([image]))
    (tmp_path / "d.yaml").write_text("red fox: [a fox.]\nmoth: [an insect.]\n")
    predictor = load(run.folder, ["red_fox", "moth"], descriptions=tmp_path / "d.yaml")
    assert {name for name, _ in next(predictor.predict([image]))} == {"red_fox", "moth"}


def test_a_run_without_them_is_refused_before_training(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no descriptions of 4 of 4 classes"):
        world.fit(tmp_path / "run", "mma++")
    (tmp_path / "d.json").write_text('{"red_fox": ["a fox."]}')
    with pytest.raises(DataError, match="no descriptions of 3 of 4 classes"):
        world.fit(tmp_path / "run", "mma++", descriptions=str(tmp_path / "d.json"))


def test_a_changed_file_is_noticed_by_a_resumed_run(world: World, tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    file.write_text(json.dumps(DESCRIPTIONS))
    settings = world.settings(tmp_path / "run", "mma++", descriptions=str(file), train={"epochs": 1})
    fit(settings)
    file.write_text(json.dumps({**DESCRIPTIONS, "red_fox": ["something else."]}))
    with pytest.raises(VlmadaptError, match="have changed since"):
        fit(settings, resume=tmp_path / "run")


def test_a_method_that_reads_none_keeps_none(world: World, tmp_path: Path) -> None:
    found = world.fit(tmp_path / "run", "clip", descriptions=str(world.descriptions))
    assert not read_config(found.folder / "adapter").descriptions
    with pytest.raises(DataError, match="'clip' with these options reads no descriptions"):
        load(found.folder, descriptions=world.descriptions)

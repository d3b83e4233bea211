"""Runs end to end: their files, that they repeat bit for bit, and their errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.data.pictures import class_folder
from tests.world import CLASSES, OPTIONS, World, adapter, metrics, outcome, result
from vlmadapt import FitResult, FitSettings, VlmadaptError, fit
from vlmadapt.core.method import Method
from vlmadapt.errors import DataError, TrainingError
from vlmadapt.registry import API_VERSION
from vlmadapt.runs.run import Run
from vlmadapt_mmrl.mmrl import MMRL


@pytest.fixture(scope="module")
def few_shot(world: World) -> FitResult:
    return world.fit(world.root / "few-shot")


def test_a_run_folder_holds_all_that_is_needed_to_repeat_and_to_use_it(few_shot: FitResult) -> None:
    files = {path.relative_to(few_shot.folder).as_posix() for path in few_shot.folder.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "environment.json",
        "data.json",
        "metrics.jsonl",
        "answers.json",
        "calibration.json",
        "result.json",
        "state.safetensors",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }


def test_the_environment_names_the_versions(few_shot: FitResult) -> None:
    environment = json.loads((few_shot.folder / "environment.json").read_text())
    assert environment["libraries"]["torch"] == version("torch")
    assert environment["method"] == {"name": "mmrl", "distribution": "vlmadapt", "version": "0.1.0"}


def test_the_data_list_every_image_with_its_label(world: World, few_shot: FitResult) -> None:
    manifest = Run.open(few_shot.folder).manifest()
    assert manifest["classes"] == list(CLASSES)
    assert len(manifest["train"]) == 3 * len(CLASSES)
    assert all((world.pictures / file).parent.name == CLASSES[label] for file, label in manifest["train"])
    tested = {file for file, _ in manifest["test"][0]["examples"]}
    assert tested
    assert not tested & {file for file, _ in manifest["train"]}


def test_metrics_have_a_line_with_the_loss_and_its_terms_for_each_epoch(few_shot: FitResult) -> None:
    epochs = metrics(few_shot.folder)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    for epoch in epochs:
        terms = [epoch[f"loss/{name}"] for name in ("ce", "representation", "image", "text")]
        assert epoch["loss"] == pytest.approx(sum(w * t for w, t in zip((0.7, 0.3, 0.5, 0.5), terms, strict=True)))


def test_the_result_counts_every_test_image_once(few_shot: FitResult) -> None:
    (group,) = few_shot.numbers["groups"]
    assert group["total"] == 2 * len(CLASSES)
    assert few_shot.numbers["accuracy"] == {"all": 100 * group["correct"] / group["total"]}
    assert json.loads((few_shot.folder / "result.json").read_text()) == few_shot.numbers


def test_base_to_novel_trains_on_one_half_and_tests_both(base_to_novel: FitResult) -> None:
    groups = {group["name"]: group for group in base_to_novel.numbers["groups"]}
    assert {name: group["role"] for name, group in groups.items()} == {"base": "seen", "novel": "unseen"}
    assert tuple(groups["base"]["classes"]) == CLASSES[:2]
    assert tuple(groups["novel"]["classes"]) == CLASSES[2:]
    assert Run.open(base_to_novel.folder).manifest()["classes"] == list(CLASSES[:2])
    base, novel = (base_to_novel.numbers["accuracy"][name] for name in ("base", "novel"))
    mean = 2 * base * novel / (base + novel) if base + novel else 0
    assert base_to_novel.numbers["accuracy"]["harmonic_mean"] == pytest.approx(mean, abs=1e-3)


def test_chance_and_zero_shot_are_next_to_the_accuracy(world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    zero_shot = world.fit(tmp_path / "clip", "clip", protocol="base-to-novel", zero_shot=False).numbers
    assert base_to_novel.numbers["zero_shot"] == zero_shot["accuracy"]
    assert base_to_novel.numbers["chance"] == {"base": 50.0, "novel": 50.0, "harmonic_mean": 50.0}
    assert "zero_shot" not in zero_shot


def test_the_adapter_says_what_it_is_and_what_it_fits(world: World, few_shot: FitResult) -> None:
    config = json.loads((few_shot.folder / "adapter" / "adapter_config.json").read_text())
    assert config["method"] == "mmrl"
    assert {key: config["options"][key] for key in OPTIONS["mmrl"]} == OPTIONS["mmrl"]
    assert config["distribution"] == {"name": "vlmadapt", "version": "0.1.0"}
    assert config["backbone"] == {"name": str(world.clip), **few_shot.classifier.backbone.identity()}
    assert config["backbone"]["sha256"] == few_shot.classifier.backbone.fingerprint()
    assert config["backbone"]["activation"] == ["QuickGELU"]
    assert config["classes"] == []
    assert config["api_version"] == API_VERSION


def test_the_adapter_has_the_trainable_tensors_and_none_of_the_backbone(few_shot: FitResult) -> None:
    tensors = adapter(few_shot.folder)
    assert sum(tensor.numel() for tensor in tensors.values()) == few_shot.numbers["trainable_parameters"]


@pytest.mark.parametrize("method", ["coop", "mmrl"])
def test_no_class_name_is_in_the_adapter_of_a_method_for_any_classes(world: World, tmp_path: Path, method: str) -> None:
    world.fit(tmp_path / "run", method, train={"epochs": 1})
    for file in (tmp_path / "run" / "adapter").iterdir():
        content = file.read_bytes().lower()
        for name in CLASSES:
            assert name.encode() not in content
            assert name.replace("_", " ").encode() not in content


def test_the_config_of_a_run_repeats_it(world: World, few_shot: FitResult, tmp_path: Path) -> None:
    content = yaml.safe_load((few_shot.folder / "config.yaml").read_text())
    content["out"] = str(tmp_path / "again")
    fit(FitSettings.from_config(content))
    assert outcome(tmp_path / "again") == outcome(few_shot.folder)


@pytest.mark.parametrize("method", [pytest.param("promptsrc", marks=pytest.mark.slow), "tip-adapter-f"])
def test_the_same_seed_gives_the_same_bits(world: World, tmp_path: Path, method: str) -> None:
    first, second = (world.fit(tmp_path / name, method).folder for name in ("first", "second"))
    assert outcome(first) == outcome(second)


def test_another_seed_gives_another_run(world: World, few_shot: FitResult, tmp_path: Path) -> None:
    other = world.fit(tmp_path / "other", seed=2).folder
    assert not torch.equal(adapter(other)["space"], adapter(few_shot.folder)["space"])
    assert metrics(other) != metrics(few_shot.folder)
    assert Run.open(other).manifest()["train"] != Run.open(few_shot.folder).manifest()["train"]


def test_the_number_of_workers_does_not_matter(world: World, few_shot: FitResult, tmp_path: Path) -> None:
    for workers in (1, 2):
        run = world.fit(tmp_path / str(workers), workers=workers).folder
        assert outcome(run) == outcome(few_shot.folder)


def test_augmenting_on_the_device_trains_as_on_the_host_but_for_rounding(
    world: World, few_shot: FitResult, tmp_path: Path
) -> None:
    exact, found = metrics(few_shot.folder), metrics(world.fit(tmp_path / "run", augment="device").folder)
    assert found != exact
    for a, b in zip(found, exact, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-2)


def test_a_class_with_fewer_images_than_shots_gives_all_of_them_and_is_named(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folder(tmp_path / "pictures" / "rare", 2)
    class_folder(tmp_path / "pictures" / "common", 8)
    world.fit(tmp_path / "run", "clip", data=str(tmp_path / "pictures"))
    assert "fewer than 3 training images: rare (1)" in capsys.readouterr().err
    assert len(Run.open(tmp_path / "run").manifest()["train"]) == 4


def test_a_support_set_smaller_than_a_batch_is_one_batch(world: World, tmp_path: Path) -> None:
    run = world.fit(tmp_path / "run", shots=1, train={"batch_size": 32, "epochs": 2})
    assert run.numbers["steps"] == 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["mmrl", "coop"])
def test_reduced_precision_trains_on_cpu_close_to_full_precision(
    world: World, tmp_path: Path, method: str, precision: str
) -> None:
    full, reduced = (
        [
            epoch["loss"]
            for epoch in metrics(world.fit(tmp_path / p, method, train={"precision": p, "epochs": 6}).folder)
        ]
        for p in ("fp32", precision)
    )
    assert full != reduced
    assert all(math.isfinite(loss) for loss in reduced)
    # Between them fp16 may have skipped its first steps, until the loss is scaled so that no gradient overflows.
    assert reduced[0] == pytest.approx(full[0], rel=0.05)
    assert reduced[-1] == pytest.approx(full[-1], rel=0.15)


def poisoned(original: Any, at: int) -> Any:
    """A method's losses that become NaN in their call number `at`."""
    calls = 0

    def losses(self: Method, x: Any) -> Iterable[Any]:
        nonlocal calls
        calls += 1
        for name, weight, value in original(self, x):
            yield name, weight, value * float("nan") if calls == at else value

    return losses


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_state(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    train = {"precision": precision}
    whole = world.fit(tmp_path / "whole", train=train).folder
    with monkeypatch.context() as patched:
        patched.setattr(MMRL, "losses", poisoned(MMRL.losses, at=5))
        with pytest.raises(TrainingError, match=r"loss is not finite in epoch 2, step 2.* last good state"):
            world.fit(tmp_path / "run", train=train)
    assert metrics(tmp_path / "run") == metrics(whole)[:1]
    fit(FitSettings("mmrl"), resume=tmp_path / "run")
    assert outcome(tmp_path / "run")[:2] == outcome(whole)[:2]


def test_a_step_that_is_not_finite_is_reported_and_never_saved(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step 2; .*nothing is saved"):
        world.fit(tmp_path / "run", train={"lr": 1e38, "warmup_epochs": 0, "weight_decay": 0.0, "optimizer": "sgd"})
    assert not (tmp_path / "run" / "adapter").exists()
    assert not (tmp_path / "run" / "state.safetensors").exists()


@pytest.mark.parametrize("protocol", ["few-shot", "base-to-novel"])
def test_a_class_name_longer_than_the_context_is_refused_before_anything_is_made(
    world: World, tmp_path: Path, protocol: str
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["a", "b", "c", "a very long name " * 20]))
    with pytest.raises(DataError, match=r"the prompt for class 'a very long name .* has .* tokens, more than the 40"):
        world.fit(tmp_path / "run", classes=str(names), protocol=protocol)
    assert not (tmp_path / "run").exists()


def test_classes_that_a_method_cannot_answer_for_are_refused_before_training(world: World, tmp_path: Path) -> None:
    with pytest.raises(VlmadaptError, match="use --protocol few-shot"):
        world.fit(tmp_path / "run", "tip-adapter-f", protocol="base-to-novel")
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_written_over(world: World, few_shot: FitResult) -> None:
    before = outcome(few_shot.folder)
    with pytest.raises(VlmadaptError, match="holds a run already; continue it with `vlmadapt fit --resume"):
        world.fit(few_shot.folder)
    assert outcome(few_shot.folder) == before


def test_a_layer_beyond_the_depth_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(VlmadaptError, match=r"layer 4 .* but the text tower has 3"):
        world.fit(tmp_path / "run", options={"layers": [3, 4]})
    assert not (tmp_path / "run").exists()


def test_a_method_without_trainable_tensors_is_only_tested(world: World, tmp_path: Path) -> None:
    run = world.fit(tmp_path / "run", "clip")
    assert run.numbers["steps"] == 0
    assert run.numbers["seconds_per_step"] is None
    assert result(run.folder)["trainable_parameters"] == 0
    assert result(run.folder)["track"] == "few-shot"


@pytest.mark.parametrize("setting", [{"shots": -1}, {"workers": -1}, {"train": {"epochs": -1}}])
def test_numbers_below_zero_are_refused(world: World, tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(VlmadaptError, match="is -1, it cannot be below 0"):
        world.fit(tmp_path / "run", **setting)

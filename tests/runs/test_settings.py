"""Settings are validated once, wherever they come from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import call
from tests.world import World
from vlmadapt import FitResult, FitSettings
from vlmadapt.core.build import MethodSpec
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import PluginError, SettingError
from vlmadapt.runs.run import Run

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"train": {"optimizer": "lbfgs"}}, "unknown value of train.optimizer 'lbfgs'. Known: adam, adamw, sgd."),
    ({"train": {"precision": "fp7"}}, "unknown value of train.precision 'fp7'. Did you mean 'fp"),
    ({"train": {"flip": 5}}, "train.flip is 5.0, it cannot be above 1."),
    ({"train": {"crop_scale": [2, 3]}}, "the nearest valid value is (1, 1)"),
    ({"train": {"crop_scale": [0.9, 0.5]}}, "the nearest valid value is (0.9, 0.9)"),
    ({"train": {"steps_per_shot": -5}}, "train.steps_per_shot is -5, it cannot be below 0."),
    ({"train": {"lr": math.nan}}, "train.lr is 'nan'; it has to be a number."),
    ({"train": {"cycles": 0}}, "train.cycles is 0, it cannot be below 1."),
    ({"train": {"epoch": 3}}, "unknown training setting 'epoch'. Did you mean 'epochs'?"),
    ({"options": {"position": "nowhere"}}, "unknown value of method.position 'nowhere'. Known: end, front, middle."),
    ({"options": {"tokens": "many"}}, "method.tokens is 'many'; it has to be a whole number."),
    ({"options": {"tokns": 3}}, "unknown option of CoOp 'tokns'. Did you mean 'tokens'?"),
    ({"shots": -1}, "shots is -1, it cannot be below 0."),
    ({"shots": "few"}, "shots is 'few'; it has to be a whole number."),
    ({"plan": "fast"}, "unknown value of plan 'fast'."),
    ({"protocol": "few-shots"}, "unknown value of protocol 'few-shots'. Did you mean 'few-shot'?"),
    (
        {"augment": "device", "train": {"augmentation": "randaugment"}},
        "or give up 'randaugment' by --train.augmentation",
    ),
    ({"class_chunk": -1}, "class_chunk is -1, it cannot be below 0."),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_python_refuses_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as refused:
        FitSettings("coop", **changes).resolved()
    assert message in str(refused.value)


@pytest.mark.parametrize("changes", [changes for changes, _ in WRONG])
@pytest.mark.parametrize("from_file", [True, False], ids=["file", "options"])
def test_the_command_line_refuses_it_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], from_file: bool
) -> None:
    content = {"method": {"name": "coop", **changes.get("options", {})}}
    content |= {key: value for key, value in changes.items() if key != "options"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    given = ["--config", str(tmp_path / "own.yaml")] if from_file else ["--method", "coop", *_options(changes)]
    assert call(capsys, "fit", *given, "--out", str(tmp_path / "run")).mistake()
    assert not (tmp_path / "run").exists()


def _options(changes: dict[str, Any]) -> list[str]:
    prefix = {"train": "train.", "options": "method."}
    found = []
    for section, values in changes.items():
        for name, value in values.items() if section in prefix else [(section, values)]:
            text = json.dumps(value) if isinstance(value, list) else str(value)
            found.append(f"--{prefix.get(section, '')}{name}={text}")
    return found


def test_a_resumed_run_is_validated_too(world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    content = yaml.safe_load((base_to_novel.folder / "config.yaml").read_text())
    content["method"]["layers"] = "all"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SettingError, match=r"method\.layers is 'all'; it has to be a list\."):
        _ = Run(tmp_path).settings().spec


def test_a_recipe_of_a_plugin_is_validated_too() -> None:
    with pytest.raises(SettingError, match=r"train\.momentum is -1, it cannot be below 0"):
        Recipe(momentum=-1)


def test_a_method_and_its_options_are_one_value() -> None:
    spec = FitSettings("coop", options={"tokens": 3}).spec
    assert spec == MethodSpec.make("coop", {"tokens": 3})
    assert spec.config.tokens == 3
    assert spec.options["position"] == "end"
    with pytest.raises(PluginError, match="unknown method 'cop'"):
        MethodSpec.make("cop")


def test_given_epochs_replace_published_steps() -> None:
    assert FitSettings("clip-lora").recipe.steps_per_shot > 0
    recipe = FitSettings("clip-lora", train={"epochs": 2}).recipe
    assert (recipe.epochs, recipe.steps_per_shot) == (2, 0)


def test_epochs_on_the_command_line_replace_published_steps(
    capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path
) -> None:
    assert call(capsys, *world.arguments(tmp_path / "run", "clip-lora")).code == 0
    train = Run.open(tmp_path / "run").settings().train
    assert (train["epochs"], train["steps_per_shot"]) == (3, 0)


def test_resume_refuses_settings_that_would_have_no_effect(
    capsys: pytest.CaptureFixture[str], base_to_novel: FitResult
) -> None:
    told = call(capsys, "fit", "--resume", str(base_to_novel.folder), "--shots", "3").mistake()
    assert told == f"--resume continues '{base_to_novel.folder}' with its own settings; leave --shots out."

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin_kit.distributions import distribution
from vlmadapt import registry
from vlmadapt.compare.recipes import configs, find_recipe
from vlmadapt.compare.settings import CompareSettings, run_specs
from vlmadapt.errors import PluginError, VlmadaptError


def test_settings_files_are_found() -> None:
    assert (configs() / "mmrl++" / "uniform.yaml").is_file()


def test_a_data_set_file_adds_to_the_paper_recipe() -> None:
    found = find_recipe("mmrl++", "paper", "dtd", "base-to-novel", 16)
    assert found.files == ("mmrl++/paper.yaml", "mmrl++/datasets/dtd.yaml")
    assert found.options["reg_weight"] == 7.0
    assert found.train["lr"] == 1e-3


def test_a_complete_file_replaces_what_was_before() -> None:
    found = find_recipe("coop", "paper", "dtd", "few-shot", 4)
    assert found.files[-1] == "coop/few-shot-4.yaml"
    assert found.options == {"tokens": 16}
    assert found.train["epochs"] == 100


def test_a_method_without_files_keeps_its_defaults() -> None:
    assert find_recipe("somebody:else", "uniform", "dtd", "few-shot", 4).files == ()


@pytest.mark.parametrize("method", ["theirs", "kit-recipes:theirs"])
def test_recipes_travel_with_a_plugin(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "kit-recipes", {"theirs": "kit_recipe_files"}, group=registry.RECIPES)
    folder = tmp_path / "kit_recipe_files"
    (folder / "datasets").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('recipes are found without an import')")
    (folder / "paper.yaml").write_text("method: {name: theirs, size: 3}\ntrain: {epochs: 7}\n")
    (folder / "datasets" / "dtd.yaml").write_text("method: {size: 5}\n")
    found = find_recipe(method, "paper", "dtd", "few-shot", 4)
    assert found.files == ("theirs/paper.yaml", "theirs/datasets/dtd.yaml")
    assert found.options == {"size": 5}
    assert found.train == {"epochs": 7}


def test_recipes_of_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "kit-recipes", {"theirs": "kit_no_such.files"}, group=registry.RECIPES)
    with pytest.raises(PluginError, match=r"is broken: there is no package 'kit_no_such\.files'"):
        find_recipe("theirs", "uniform", "dtd", "few-shot", 4)


def test_a_recipe_for_something_else_is_noted() -> None:
    settings = CompareSettings(["clip-lora"], protocol="base-to-novel", recipe="paper", seeds=[1])
    (spec,) = run_specs(settings)
    assert spec.note == "recipe published for few-shot"


def test_the_grid_has_every_combination_and_common_settings_win() -> None:
    settings = CompareSettings(["maple", "coop"], ["openmoji"], seeds=[1, 2], shots=[1, 4], train={"epochs": 2})
    grid = list(run_specs(settings))
    assert len({(c.settings.method, c.settings.shots, c.settings.seed) for c in grid}) == len(grid) == 8
    assert {c.settings.recipe.epochs for c in grid} == {2}
    assert [c.settings.seed for c in grid] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_common_epochs_do_not_train_what_is_solved() -> None:
    settings = CompareSettings(["linear-probe", "tip-adapter"], seeds=[1], train={"epochs": 2, "batch_size": 7})
    assert [(c.settings.recipe.epochs, c.settings.recipe.batch_size) for c in run_specs(settings)] == [(0, 7), (0, 7)]


def test_a_shorter_training_has_a_shorter_warmup_and_says_so() -> None:
    common = CompareSettings(["coop", "maple", "linear-probe"], seeds=[1], train={"epochs": 1})
    coop, maple, probe = run_specs(common)
    for spec in (coop, maple):
        assert (spec.settings.recipe.epochs, spec.settings.recipe.warmup_epochs) == (1, 0)
        assert not spec.settings.recipe.only_warmup
        assert spec.note == "warm-up shortened from 1 to 0 epochs, in proportion to the training"
    assert "warm-up" not in probe.note


def test_a_longer_training_keeps_its_warmup_and_given_settings_win() -> None:
    (longer,) = run_specs(CompareSettings(["coop"], seeds=[1], train={"epochs": 500}))
    (asked,) = run_specs(CompareSettings(["coop"], seeds=[1], train={"epochs": 1, "warmup_epochs": 1}))
    assert (longer.settings.recipe.warmup_epochs, longer.note) == (1, "")
    assert (asked.settings.recipe.warmup_epochs, asked.note) == (1, "")


def test_common_epochs_that_are_no_number_are_refused() -> None:
    with pytest.raises((VlmadaptError, TypeError)):
        list(run_specs(CompareSettings(["coop"], seeds=[1], train={"epochs": "many"})))


def test_common_epochs_replace_steps() -> None:
    (spec,) = run_specs(CompareSettings(["clip-lora"], seeds=[1], train={"epochs": 2}))
    assert spec.settings.recipe.with_epochs(16.0, 5).epochs == 2


def test_a_file_for_one_method_replaces_its_recipe(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("method: {name: coop, tokens: 3}\n")
    grid = list(run_specs(CompareSettings(["clip", "coop"], seeds=[1], method_configs=[str(own)])))
    assert [c.settings.options.get("tokens") for c in grid] == [None, 3]
    assert grid[1].recipe == (str(own),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": []}, "--methods is empty"),
        ({"methods": ["clip", "clip"]}, "names 'clip' twice"),
        ({"seeds": [1, 1]}, "names '1' twice"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(changes: dict[str, list[object]], said: str) -> None:
    with pytest.raises(VlmadaptError, match=said):
        CompareSettings(**{"methods": ["clip"], **changes}).check()  # type: ignore[arg-type]


def test_a_file_for_a_method_that_is_not_compared_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("method: {name: coop}\n")
    with pytest.raises(VlmadaptError, match="'coop', which is not among --methods"):
        CompareSettings(["clip"], method_configs=[str(own)]).check()


def test_what_transfers_keeps_its_own_complete_settings() -> None:
    found = find_recipe("mmrl", "paper", "imagenet", "domain-generalization", 16)
    assert found.files == ("mmrl/cross-dataset.yaml",)
    assert found.train["epochs"] == 1
    without = find_recipe("mma", "paper", "imagenet", "cross-dataset", 16)
    assert without.files == ("mma/paper.yaml", "mma/imagenet.yaml")

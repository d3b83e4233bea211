"""`vlmadapt new method` writes a package that works unchanged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.plugin_kit.processes import FIT, cli, install, python, where
from tests.world import World
from vlmadapt import load_backbone
from vlmadapt.data.images import broken_images
from vlmadapt.errors import VlmadaptError
from vlmadapt.registry.scaffold import METHOD_KINDS, new_backbone, new_dataset, new_method
from vlmadapt.testing import MethodUnderTest, checks, run_checks


@pytest.mark.slow
def test_the_package_installs_passes_its_tests_and_fits(tmp_path: Path, world: World) -> None:
    package, *files = new_method("my-method", tmp_path / "here")
    assert {path.relative_to(package).as_posix() for path in files} == {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        "vlmadapt_my_method/__init__.py",
        "vlmadapt_my_method/method.py",
        "vlmadapt_my_method/py.typed",
        "vlmadapt_my_method/recipes/__init__.py",
        "vlmadapt_my_method/recipes/uniform.yaml",
        "tests/test_my_method.py",
    }
    environment = install(package, tmp_path / "site")
    tested = python(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not two-processes", cwd=package)
    assert f"{len(checks(quick=True)) - 1} passed, 1 skipped, 1 deselected" in tested
    out = str(tmp_path / "run")
    recipe = "vlmadapt_my_method/recipes/uniform.yaml"
    cli(environment, "fit", "--config", recipe, *FIT, *where(world), "--out", out, cwd=package)
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    package = new_method("x2", tmp_path / "x2")[0]
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["vlmadapt.methods"] == {"x2": "vlmadapt_x2.method:X2"}
    assert project["entry-points"]["vlmadapt.recipes"] == {"x2": "vlmadapt_x2.recipes"}
    config: Mapping[str, object] = yaml.safe_load((package / "vlmadapt_x2" / "recipes" / "uniform.yaml").read_text())
    assert config["method"] == {"name": "x2", "tokens": 4, "layers": 2, "weight": 1.0}
    assert not any("$" in path.read_text() for path in package.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", [kind for kind in METHOD_KINDS if kind != "tokens"])
def test_each_kind_of_method_conforms_as_it_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = new_method(f"a-{kind}", tmp_path / "here", kind)[0]
    monkeypatch.syspath_prepend(package)
    module = import_module(f"vlmadapt_a_{kind}.method")
    tested = MethodUnderTest(getattr(module, f"A{kind.capitalize()}"))
    assert [result for result in run_checks(tested, quick=True) if not result.ok] == []
    config: Mapping[str, object] = yaml.safe_load((package / f"vlmadapt_a_{kind}/recipes/uniform.yaml").read_text())
    assert config["method"] == {"name": f"a-{kind}", **vars(tested.config)}


def test_a_data_set_and_a_backbone_are_complete_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path / "cache"))
    for new, what in ((new_dataset, "dataset"), (new_backbone, "backbone")):
        monkeypatch.syspath_prepend(new(f"a-{what}", tmp_path / what)[0])
    data = import_module("vlmadapt_a_dataset.dataset").a_dataset()
    assert (len(data.classes), len(data.train), len(data.test)) == (4, 16, 16)
    assert not broken_images(data.examples)
    folder = import_module("vlmadapt_a_backbone.backbone").a_backbone()
    assert load_backbone(str(folder)).image.depth == 4


@pytest.mark.parametrize("name", ["My-Method", "my_method", "2x", "x--y", "a/b", "", "class!"])
def test_names_that_cannot_be_packages_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VlmadaptError, match="cannot be a method's name"):
        new_method(name, tmp_path / "out")


def test_nothing_is_overwritten_and_no_name_is_taken_twice(tmp_path: Path) -> None:
    new_method("mine", tmp_path / "mine")
    with pytest.raises(VlmadaptError, match="exists already"):
        new_method("mine", tmp_path / "mine")
    with pytest.raises(VlmadaptError, match="there is a method 'coop' from distribution 'vlmadapt"):
        new_method("coop", tmp_path / "coop")

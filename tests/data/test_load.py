"""A data set by name or by folder, with the user's templates and class names on top."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.data.pictures import class_folder, dataset
from vlmadapt import registry
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.load import load_data
from vlmadapt.data.registered import find_source
from vlmadapt.data.source import DataSource
from vlmadapt.errors import DataError, PluginError
from vlmadapt.registry import entry_points


def listed() -> Dataset:
    return dataset(3, 3)


class InRoot(DataSource):
    """Lies in the data root."""

    def load(self, root: Path) -> Dataset:
        return dataset(3, 3, root=str(root))


in_root = InRoot()


def broken() -> Dataset:
    raise RuntimeError("server\nis down")


def refusing() -> Dataset:
    raise DataError("not downloaded yet.")


NUMBER = 3


def wrong() -> str:
    return "a data set"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def plugin(name: str) -> registry.Plugin:
        entry = EntryPoint(name, f"{__name__}:{name}", registry.DATASETS)
        return registry.Plugin(name, "somewhere", "1.0", entry)

    found = [plugin(name) for name in ("broken", "listed", "refusing", "wrong", "InRoot", "in_root", "NUMBER")]
    for module in (registry, entry_points):
        monkeypatch.setattr(module, "plugins", lambda group: found if group == registry.DATASETS else [])


@pytest.mark.parametrize("name", ["listed", "somewhere:listed"])
def test_registered_name(name: str) -> None:
    assert load_data(name) == listed()


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        class_folder(tmp_path / "listed" / name, 2)
    assert load_data(str(tmp_path / "listed")).classes == ("cat", "dog")
    monkeypatch.chdir(tmp_path)
    assert load_data("listed") == listed()
    assert load_data("./listed").classes == ("cat", "dog")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("~/listed").classes == ("cat", "dog")


def test_unknown_word_gets_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'listd'\. Did you mean 'listed'\?.*give a folder"):
        load_data("listd")


def test_missing_folder_is_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder '.*/listd' does not exist"):
        load_data(str(tmp_path / "listd"))


def test_templates_and_class_names_replace_the_data_sets_own(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("class 1: dog\nclass 0: cat\n")
    data = load_data("listed", templates=["a {}.", "the {}."], classes=file)
    assert data.templates == ("a {}.", "the {}.")
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize("templates", [["a photo"], ["a {}.", "{} and {}"], ["a {name}."], []])
def test_templates_hold_one_place_for_the_name(templates: list[str]) -> None:
    with pytest.raises(DataError, match="template"):
        load_data("listed", templates=templates)


def test_broken_plugins_are_named() -> None:
    with pytest.raises(PluginError, match=r"data set 'broken' from distribution 'somewhere 1.0' is broken: .*server$"):
        load_data("broken")
    with pytest.raises(PluginError, match=r"data set 'wrong' .* returns str"):
        load_data("wrong")
    with pytest.raises(DataError, match=r"^not downloaded yet\.$"):
        load_data("refusing")


@pytest.mark.parametrize("name", ["in_root", "InRoot"])
def test_a_source_gets_the_data_root(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_data(name, root=tmp_path) == dataset(3, 3, root=str(tmp_path))
    monkeypatch.delenv("VLMADAPT_DATA", raising=False)
    with pytest.raises(DataError, match=f"data set '{name}' is looked for .* give it with --data_root DIR"):
        load_data(name)
    assert find_source(name).needs_root
    assert not find_source("listed").needs_root


def test_what_is_neither_source_nor_function() -> None:
    with pytest.raises(PluginError, match=r"'NUMBER' .* is broken: it is neither a vlmadapt.plugin.DataSource nor"):
        load_data("NUMBER")


@pytest.mark.parametrize("spec", ["x" * 5000, "/" + "x" * 5000, "y" * 5000 + ".csv", "nul\0", "/nul\0/x"])
def test_names_that_no_file_can_have_are_a_sentence(spec: str) -> None:
    with pytest.raises(DataError):
        load_data(spec)

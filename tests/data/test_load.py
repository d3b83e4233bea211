"""A data set by name or by folder, with the user's templates and class names on top."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.data.pictures import class_folder, dataset
from vlmadapt import registry
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.load import load_data
from vlmadapt.errors import DataError, PluginError


def listed() -> Dataset:
    return dataset(3, 3)


def broken() -> Dataset:
    raise RuntimeError("server\nis down")


def refusing() -> Dataset:
    raise DataError("not downloaded yet.")


def wrong() -> str:
    return "a data set"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def plugin(make: Callable[[], object]) -> registry.Plugin:
        entry = EntryPoint(make.__name__, f"{__name__}:{make.__name__}", registry.DATASETS)
        return registry.Plugin(make.__name__, "somewhere", "1.0", entry)

    found = [plugin(make) for make in (broken, listed, refusing, wrong)]
    monkeypatch.setattr(registry, "plugins", lambda group: found if group == registry.DATASETS else [])


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

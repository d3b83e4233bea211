"""Checks of data sets and backbones find what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.testing import datasets
from vlmadapt.testing.backbones import BackboneUnderTest, folder
from vlmadapt.testing.datasets import CHECKS, DatasetUnderTest
from vlmadapt.testing.result import CheckFailed, Status, results_of


@pytest.fixture
def birds(tmp_path: Path) -> Dataset:
    def examples(part: str, start: int) -> tuple[Example, ...]:
        made = []
        for i in range(4):
            path = tmp_path / f"{part}{i}.png"
            Image.new("RGB", (8, 8), (start + 10 * i, 0, 0)).save(path)
            made.append(Example(path, i % 2))
        return tuple(made)

    return Dataset("birds", ("robin", "wren"), ("a {}.",), examples("train", 0), (), examples("test", 100))


def failed(data: Dataset, monkeypatch: pytest.MonkeyPatch, expected: dict[str, int] | None = None) -> dict[str, str]:
    """Messages of the checks that fail."""
    source = type("Source", (), {"expected": expected or {}})
    monkeypatch.setattr(datasets, "load_registered", lambda *_: data)
    monkeypatch.setattr(datasets, "find_source", lambda _: source)
    results = results_of(CHECKS, DatasetUnderTest("birds"))
    return {result.check: result.message for result in results if result.status is Status.FAILED}


def test_a_sound_data_set_fails_nothing(birds: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(birds, monkeypatch, {"classes": 2, "train": 4, "test": 4}) == {}


def test_each_fault_of_a_data_set_is_found(birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(birds.train[0].path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no image")
    first = birds.test[0]
    for data, expected, check, message in (
        (birds, {"train": 5}, "counts", "4 instead of 5 (train)"),
        (replace(birds, classes=("robin", "robin")), {}, "classes", "several classes are called 'robin'"),
        (replace(birds, classes=("robin", "wren", "owl")), {}, "classes", "no training images of owl"),
        (replace(birds, classes=("robin",)), {}, "classes", "labels 1 are not those"),
        (replace(birds, test=()), {}, "classes", "no test images"),
        (replace(birds, templates=("a bird.",)), {}, "templates", "'a bird.' has no place"),
        (replace(birds, test=(*birds.test, birds.train[1])), {}, "splits", "listed in train and test"),
        (replace(birds, test=(*birds.test, Example(copy, 0))), {}, "splits", "are the same image"),
        (
            replace(birds, test=(*birds.test, replace(first, path=tmp_path / "broken.png"))),
            {},
            "images",
            "cannot be read",
        ),
    ):
        found = failed(data, monkeypatch, expected)
        assert list(found) == [check]
        assert message in found[check] and "How to fix it: " in found[check]


def test_a_data_set_that_does_not_load_is_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Dataset:
        raise ValueError("no list of files")

    monkeypatch.setattr(datasets, "load_registered", fails)
    (result,) = results_of(CHECKS, DatasetUnderTest("birds"))
    assert "no list of files" in result.message


def test_a_backbone_without_its_files_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = type("Plugin", (), {"load": lambda self: lambda: tmp_path})()
    monkeypatch.setattr("vlmadapt.testing.backbones.registry.find", lambda *_: plugin)
    with pytest.raises(CheckFailed, match=r"has no open_clip_config\.json"):
        folder(BackboneUnderTest("mine"))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(CheckFailed, match="has no weights"):
        folder(BackboneUnderTest("mine"))

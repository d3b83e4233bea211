"""A data set of the Hub, read by the real `datasets` package from a folder of parquet files or by a stand-in."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image as Pillow

from vlmadapt.data.images import read_image
from vlmadapt.data.load import load_data, short_name
from vlmadapt.errors import DataError


class Image:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class Rows(list[dict[str, Any]]):
    """What is used of `datasets.Dataset`."""

    def __init__(self, features: dict[str, Any], rows: list[dict[str, Any]], fingerprint: str) -> None:
        super().__init__(rows)
        self.features = features
        self._fingerprint = fingerprint

    def cast_column(self, column: str, feature: Image) -> Rows:
        assert isinstance(self.features[column], Image)
        assert not feature.decode
        return self


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def rows(*labels: int, start: int = 0, names: tuple[str, ...] = ("cat", "dog"), **features: Any) -> Rows:
    found = {"image": Image(), "label": ClassLabel(list(names)), **features}
    content = [
        {"image": {"bytes": png(start + i), "path": None if i % 2 else "x.PNG"}, "label": label}
        for i, label in enumerate(labels)
    ]
    return Rows(found, content, f"print{start}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Rows]]:
    """Data sets by name, on a Hub that is not there."""
    there: dict[str, dict[str, Rows]] = {}
    module = ModuleType("datasets")
    module.Image = Image  # type: ignore[attr-defined]

    def load(name: str) -> dict[str, Rows]:
        if name not in there:
            raise FileNotFoundError(f"no data set {name}\nlook again")
        return there[name]

    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path / "cache"))
    return there


def test_splits_labels_and_images(hub: dict[str, dict[str, Rows]]) -> None:
    hub["me/pets"] = {"train": rows(0, 1, 1), "validation": rows(1, start=50), "test": rows(0, -1, start=90)}
    data = load_data("hf:me/pets")
    assert data.classes == ("cat", "dog")
    assert [[e.label for e in part] for part in (data.train, data.val, data.test)] == [[0, 1, 1], [1], [0]]
    assert [read_image(e.path).getpixel((0, 0)) for e in data.train] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert read_image(data.val[0].path).getpixel((0, 0)) == (50, 0, 0)
    assert data.notes == ()
    assert load_data("hf:me/pets") == data
    assert short_name("hf:me/pets") == "me-pets"


def test_changed_data_do_not_meet_old_files(hub: dict[str, dict[str, Rows]]) -> None:
    hub["pets"] = {"train": rows(0, 1), "test": rows(0)}
    before = load_data("hf:pets")
    hub["pets"] = {"train": rows(0, 1, start=7), "test": rows(0)}
    assert not {e.path for e in before.train} & {e.path for e in load_data("hf:pets").train}


def test_without_a_test_split(hub: dict[str, dict[str, Rows]]) -> None:
    hub["pets"] = {"train": rows(0, 1), "validation": rows(1, 0, start=50)}
    data = load_data("hf:pets")
    assert [e.label for e in data.test] == [1, 0]
    assert (data.val, data.notes) == ((), ("hf:pets has no labelled test images; the validation images are tested.",))


def test_training_images_alone_are_cut(hub: dict[str, dict[str, Rows]]) -> None:
    hub["pets"] = {"train": rows(*[0, 1] * 10)}
    data = load_data("hf:pets")
    assert len(data.examples) == 20
    assert all({e.label for e in part} == {0, 1} for part in (data.train, data.test))
    assert len(data.only_tested().test) == 20
    assert data.notes == (
        "hf:pets has training images only; to train on them they are split into 50% train, 20% val and 30% test.",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": Rows({"text": object()}, [], "a")}, "no column of type Image; its columns are text"),
        ({"train": Rows({"image": Image(), "n": 1}, [], "a")}, "no column of type ClassLabel"),
        ({"extra": rows(0)}, "no split train or test, but extra"),
        (None, "'hf:pets' cannot be loaded: FileNotFoundError: no data set pets$"),
    ],
)
def test_what_cannot_be_used(hub: dict[str, dict[str, Rows]], content: dict[str, Rows] | None, message: str) -> None:
    if content is not None:
        hub["pets"] = content
    with pytest.raises(DataError, match=message):
        load_data("hf:pets")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"'hf:pets' needs the package 'datasets': pip install 'vlmadapt\[hub\]'"):
        load_data("hf:pets")


@pytest.mark.slow
def test_the_real_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path / "cache"))
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog"])})
    folder = tmp_path / "pets"
    for split, labels in (("train", [0, 1, 1, 0]), ("test", [1, 0])):
        content = [{"img": {"bytes": png(10 * i), "path": None}, "fine": label} for i, label in enumerate(labels)]
        (folder / "data").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(content, features=features).to_parquet(folder / "data" / f"{split}-0.parquet")
    data = load_data(f"hf:{folder}")
    assert data.classes == ("cat", "dog")
    assert [[e.label for e in part] for part in (data.train, data.test)] == [[0, 1, 1, 0], [1, 0]]
    assert read_image(data.train[2].path).getpixel((0, 0)) == (20, 0, 0)

"""Training on images and labels from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.world import OPTIONS, SHORT, World, adapter
from vlmadapt import VlmadaptError, evaluate, fit_images, load
from vlmadapt.errors import DataError
from vlmadapt.runs.run import Run


@pytest.fixture
def some(world: World) -> tuple[list[Path], list[str]]:
    paths = sorted(path for name in ("axolotl", "red_fox") for path in (world.pictures / name).iterdir())
    return paths, [path.parent.name for path in paths]


def settings(world: World, out: Path, **changes: Any) -> dict[str, Any]:
    given = {"method": "coop", "options": OPTIONS["coop"], "train": SHORT, "backbone": str(world.clip), "out": out}
    return {**given, "workers": 0, **changes}


def test_images_from_memory_train_like_their_files(
    world: World, tmp_path: Path, some: tuple[list[Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, labels = some
    files = fit_images(paths, labels, **settings(world, tmp_path / "files"))
    forms = [Image.open(p) if i % 2 else np.asarray(Image.open(p)) for i, p in enumerate(paths)]
    memory = fit_images(iter(forms), labels, **settings(world, tmp_path / "memory"))
    trained = adapter(files.folder)
    assert all((trained[name] == values).all() for name, values in adapter(memory.folder).items())
    assert files.numbers["accuracy"] == {}
    assert Run.open(files.folder).result()["groups"] == []  # type: ignore[index]
    assert memory.predictor.predict(forms[0], top=2) == load(memory.folder).predict(paths[0], top=2)
    assert not load(memory.folder).calibration
    (tmp_path / "memory").rename(tmp_path / "moved")
    assert evaluate(tmp_path / "moved", data=str(world.pictures))[1]["pictures"] >= 0
    with pytest.raises(DataError, match="trained without tests"):
        evaluate(tmp_path / "moved")


def test_given_test_and_validation_images_are_used(
    world: World, tmp_path: Path, some: tuple[list[Path], list[str]]
) -> None:
    paths, labels = some
    held = slice(0, None, 4)
    kept = [i for i in range(len(paths)) if i % 4]
    result = fit_images(
        [paths[i] for i in kept],
        [labels[i] for i in kept],
        test=(paths[held], labels[held]),
        val=(paths[held][:0], []),
        **settings(world, tmp_path / "run"),
    )
    (group,) = result.numbers["groups"]
    assert (group["total"], set(group["classes"])) == (4, {"axolotl", "red_fox"})
    with pytest.raises(VlmadaptError, match="holds a run already"):
        fit_images(paths, labels, **settings(world, tmp_path / "run"))


def test_each_run_gets_a_folder_of_its_own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = [np.full((8, 8, 3), value, np.uint8) for value in (0, 90, 180, 250)]
    for _ in range(2):
        fit_images(images, ["dark", "dark", "light", "light"], method="clip", backbone=str(world.clip))
    assert sorted(path.name for path in Path("runs").iterdir()) == ["clip-images", "clip-images-2"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["a.png", "b.png"], ["x"], "there are 2 train images and 1 labels"),
        (["a.png"], ["x", "y"], "there are 1 train images and 2 labels"),
        ("a.png", ["x"], "one train image is given"),
        (["a.png", "b.png"], ["x", None], "label 1 is empty"),
        (["a.png", "b.png"], ["x", float("nan")], "label 1 is empty"),
        (["a.png", "b.png"], ["x", np.float32("nan")], "label 1 is empty"),
        (["a.png", "b.png"], ["x", "y"], "2 of 2 images in .* do not exist"),
        ([np.zeros((4, 4, 3)), "b.png"], ["x", "y"], "arrays of float64 are not read"),
    ],
)
def test_what_does_not_fit_is_refused(world: World, tmp_path: Path, images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_images(images, labels, **settings(world, tmp_path / "run"))

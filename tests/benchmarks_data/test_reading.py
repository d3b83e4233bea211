"""Every benchmark is read from CoOp's folder layout, as it is named and labelled there."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks_data.layouts import LAYOUTS, SPLIT_FILES
from vlmadapt import registry
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.load import load_data
from vlmadapt.errors import DataError

FISH = tuple(f"the {i}th fish" for i in range(4))
CLASSES = {
    "imagenet": FISH,
    "caltech101": ("face", "leopard", "accordion"),
    "oxford_pets": ("abyssinian", "american_bulldog"),
    "stanford_cars": ("car 0", "car 1"),
    "oxford_flowers": ("flower 1", "flower 2"),
    "food101": ("apple_pie", "sushi"),
    "fgvc_aircraft": ("707-320", "Boeing 717"),
    "sun397": ("abbey", "outdoor apartment_building"),
    "dtd": ("banded", "zigzagged"),
    "eurosat": ("Annual Crop Land", "Forest", "Sea or Lake"),
    "ucf101": ("Apply_Eye_Makeup", "Yo_Yo"),
    "imagenet_v2": FISH,
    "imagenet_sketch": FISH,
    "imagenet_a": FISH[1:3],
    "imagenet_r": FISH[::2],
}
SIZES = {
    "imagenet": (12, 0, 8),
    "caltech101": (15, 6, 9),
    "oxford_pets": (7, 7, 6),
    "stanford_cars": (8, 2, 10),
    "oxford_flowers": (7, 7, 6),
    "food101": (10, 4, 6),
    "fgvc_aircraft": (4, 4, 4),
    "sun397": (7, 7, 6),
    "dtd": (10, 4, 6),
    "eurosat": (15, 6, 9),
    "ucf101": (7, 7, 6),
    "imagenet_v2": (0, 0, 8),
    "imagenet_sketch": (0, 0, 8),
    "imagenet_a": (0, 0, 4),
    "imagenet_r": (0, 0, 4),
}
TEMPLATES = {
    "oxford_pets": "a photo of a {}, a type of pet.",
    "oxford_flowers": "a photo of a {}, a type of flower.",
    "food101": "a photo of {}, a type of food.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "ucf101": "a photo of a person doing {}.",
}
OWN_SPLIT = {
    "caltech101": ("face", "leopard", "accordion"),
    "oxford_pets": ("abyssinian", "american_bulldog"),
    "stanford_cars": ("2000 AM General Hummer SUV", "2012 Acura RL Sedan"),
    "oxford_flowers": ("pink primrose", "canterbury bells"),
    "food101": ("apple_pie", "sushi"),
    "sun397": ("abbey", "outdoor apartment_building"),
    "dtd": ("banded", "zigzagged"),
    "eurosat": ("Annual Crop Land", "Forest", "Sea or Lake"),
    "ucf101": ("Apply_Eye_Makeup", "Yo_Yo"),
}


def parts(data: Dataset) -> tuple[set[Path], set[Path], set[Path]]:
    train, val, test = ({example.path for example in part} for part in (data.train, data.val, data.test))
    return train, val, test


def test_all_are_registered_under_the_names_of_the_configs() -> None:
    registered = {plugin.name for plugin in registry.plugins(registry.DATASETS)}
    configs = {file.stem for file in Path("configs").glob("mmrl++/targets/*.yaml")}
    assert configs | {"imagenet"} == set(LAYOUTS) <= registered


@pytest.mark.parametrize("name", LAYOUTS)
def test_as_published(name: str, root: Path) -> None:
    data = load_data(name, root=root)
    assert (data.name, data.classes) == (name, CLASSES[name])
    assert (len(data.train), len(data.val), len(data.test)) == SIZES[name]
    assert data.templates == (TEMPLATES.get(name, "a photo of a {}."),)
    assert data.notes == ()
    every = [*data.train, *data.val, *data.test]
    assert all(example.path.is_file() for example in every)
    assert len({example.path for example in every}) == len(every)
    assert {example.label for example in data.test} == set(range(len(data.classes)))


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_without_split_file_the_split_is_made_and_noted(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    (tmp_path / SPLIT_FILES[name]).unlink()
    data = load_data(name, root=tmp_path)
    assert data.classes == OWN_SPLIT[name]
    (note,) = data.notes
    assert SPLIT_FILES[name] in note
    assert "not the published one" in note
    train, val, test = parts(data)
    assert len(train | val | test) == len(train) + len(val) + len(test)
    assert all(path.is_file() for path in train | val | test)
    cut = Counter((part, e.label) for part in ("train", "val", "test") for e in getattr(data, part))
    share = (4, 1, 5) if name in ("oxford_pets", "stanford_cars", "sun397", "ucf101") else (5, 2, 3)
    assert [cut[part, label] for label in range(len(data.classes)) for part in ("train", "val", "test")] == [
        *share
    ] * len(data.classes)
    assert load_data(name, root=tmp_path) == data


def test_a_split_file_decides_labels_and_order(root: Path) -> None:
    listed = json.loads((root / SPLIT_FILES["stanford_cars"]).read_text())
    data = load_data("stanford_cars", root=root)
    folder = root / "stanford_cars"
    assert [(e.path.relative_to(folder).as_posix(), e.label) for e in data.train] == [
        (path, label) for path, label, _ in listed["train"]
    ]


def test_data_root_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMADAPT_DATA", str(root))
    assert load_data("dtd") == load_data("dtd", root=root)
    monkeypatch.delenv("VLMADAPT_DATA")
    with pytest.raises(DataError, match=r"--data_root DIR or set VLMADAPT_DATA; `vlmadapt data prepare dtd"):
        load_data("dtd")


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match="is a file"):
        load_data("dtd", root=file)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_missing_is_named_with_the_command_that_gets_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_data(name, root=tmp_path)
    assert str(tmp_path) in str(error.value)
    assert f"`vlmadapt data prepare {name} --data_root {tmp_path}`" in str(error.value)


def test_images_of_a_split_file_that_are_missing(tmp_path: Path) -> None:
    LAYOUTS["dtd"](tmp_path)
    shutil.rmtree(tmp_path / "dtd" / "images")
    with pytest.raises(DataError, match=r"'.*dtd/images' is missing; data set 'dtd'"):
        load_data("dtd", root=tmp_path)


@pytest.mark.parametrize(
    "content", ["{", '{"train": [], "val": []}', '{"train": [["a.jpg", 0]], "val": [], "test": []}']
)
def test_a_split_file_that_is_none(content: str, tmp_path: Path) -> None:
    LAYOUTS["dtd"](tmp_path)
    (tmp_path / SPLIT_FILES["dtd"]).write_text(content)
    with pytest.raises(DataError, match="is no split file of CoOp's"):
        load_data("dtd", root=tmp_path)


def test_annotations_that_cannot_be_read(tmp_path: Path) -> None:
    LAYOUTS["fgvc_aircraft"](tmp_path)
    (tmp_path / "fgvc_aircraft" / "images_variant_train.txt").write_text("1025794 Concorde\n")
    with pytest.raises(DataError, match=r"not as CoOp's DATASETS.md says \(KeyError: 'Concorde'\)"):
        load_data("fgvc_aircraft", root=tmp_path)


def test_a_label_without_images(tmp_path: Path) -> None:
    LAYOUTS["dtd"](tmp_path)
    file = tmp_path / SPLIT_FILES["dtd"]
    file.write_text(json.dumps({"train": [["a.jpg", 2, "x"]], "val": [], "test": []}))
    with pytest.raises(DataError, match="no image of class 0"):
        load_data("dtd", root=tmp_path)


def test_imagenet_validation_images_that_are_not_sorted(tmp_path: Path) -> None:
    LAYOUTS["imagenet"](tmp_path)
    shutil.rmtree(tmp_path / "imagenet" / "images" / "val")
    (tmp_path / "imagenet" / "images" / "val").mkdir()
    with pytest.raises(DataError, match=r"'.*images/val' has no class folders"):
        load_data("imagenet", root=tmp_path)


def test_imagenet_names_without_the_text_file_are_those_of_clip(tmp_path: Path) -> None:
    LAYOUTS["imagenet"](tmp_path)
    (tmp_path / "imagenet" / "classnames.txt").unlink()
    names = ("tench", "goldfish", "great white shark", "tiger shark")
    assert load_data("imagenet", root=tmp_path).classes == names
    LAYOUTS["imagenet_a"](tmp_path)
    (tmp_path / "imagenet-adversarial" / "classnames.txt").unlink()
    assert load_data("imagenet_a", root=tmp_path).classes == names[1:3]


def test_imagenet_is_tested_on_the_published_targets() -> None:
    from vlmadapt.data.registered import find_source

    targets = find_source("imagenet").targets
    assert set(targets["domain-generalization"]) == {"imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"}
    assert set(targets["cross-dataset"]) == set(LAYOUTS) - {"imagenet"} - set(targets["domain-generalization"])

"""The data of a run: broken images, copies, and the notes on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import class_folder
from vlmadapt.errors import DataError
from vlmadapt.runs.inputs import Inputs, checked_splits
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.settings import FitSettings


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in ("beagle", "crow"):
            class_folder(tmp_path / "pets" / split / name, 3)
            for file in (tmp_path / "pets" / split / name).iterdir():
                file.rename(file.with_name(f"{split}-{file.name}"))
    for file in (tmp_path / "pets" / "test").rglob("*.png"):
        file.write_bytes(file.read_bytes() + file.name.encode() + file.parent.name.encode())
    return tmp_path / "pets"


def read(folder: Path, **settings: Any) -> Inputs:
    return Inputs.read(FitSettings("clip", data=str(folder), protocol="few-shot", **settings))


def test_different_images_get_no_note(pets: Path) -> None:
    inputs, _ = checked_splits(read(pets), Reporter(False))
    assert inputs.notes == ()


def test_copies_in_training_and_test_images_and_in_two_classes_are_counted(pets: Path) -> None:
    shutil.copy(pets / "train" / "crow" / "train-00.png", pets / "test" / "crow" / "copy.png")
    shutil.copy(pets / "train" / "crow" / "train-01.png", pets / "train" / "beagle" / "copy.png")
    shutil.copy(pets / "train" / "crow" / "train-02.png", pets / "train" / "crow" / "harmless.png")
    inputs, _ = checked_splits(read(pets), Reporter(False))
    assert inputs.notes == (
        "equal content in two classes, or in both training and test images: 4 images; "
        f"`vlmadapt data check {pets}` lists them.",
    )


def test_a_class_emptied_by_skipping_broken_images_is_refused(pets: Path) -> None:
    for file in (pets / "train" / "crow").iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(DataError, match="class 'crow' of 'pets' has no training images that can be read"):
        checked_splits(read(pets, skip_corrupt=True), Reporter(False))


@pytest.mark.parametrize("protocol", ["cross-dataset", "domain-generalization"])
def test_every_image_of_a_target_without_parts_is_tested_and_the_parts_of_others_are_kept(
    pets: Path, tmp_path: Path, protocol: str
) -> None:
    for name in ("beagle", "crow"):
        class_folder(tmp_path / "sketches" / name, 10)
        class_folder(tmp_path / "parted" / "train" / name, 4)
        class_folder(tmp_path / "parted" / "test" / name, 3)
    targets = f"{tmp_path / 'sketches'},{tmp_path / 'parted'}"
    splits = Inputs.read(FitSettings("clip", data=str(pets), protocol=protocol, targets=targets)).splits()  # type: ignore[arg-type]
    assert [(group.name, len(group.examples)) for group in splits.groups] == [
        ("pets", 6),
        ("sketches", 20),
        ("parted", 6),
    ]


def test_a_target_with_training_images_is_refused(pets: Path) -> None:
    inputs = Inputs.read(FitSettings("clip", data=str(pets), protocol="cross-dataset", targets=str(pets / "train")))
    with pytest.raises(DataError, match="6 of the 6 images to test of 'train' are training images of 'pets'"):
        inputs.splits()

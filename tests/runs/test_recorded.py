"""A finished run is tested on the images that its `data.json` lists, whatever has become of the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import class_folder, picture
from vlmadapt.data.load import load_data
from vlmadapt.data.splits import group_sha256, manifest
from vlmadapt.errors import DataError
from vlmadapt.roles import Role
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.recorded import recorded_groups
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import counted


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("beagle", "crow", "newt"):
        class_folder(tmp_path / "pets" / name, 12)
    return tmp_path / "pets"


def inputs(folder: Path, *targets: Path) -> Inputs:
    settings = FitSettings("clip", data=str(folder), protocol="few-shot")
    return Inputs(settings, load_data(str(folder)), tuple(load_data(str(target)) for target in targets))


def written(given: Inputs) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(manifest(given.splits())))
    return content


def test_unchanged_data_are_the_groups_of_the_run(pets: Path) -> None:
    before = inputs(pets)
    found = recorded_groups(written(before), before)
    assert found.groups == before.splits().groups
    assert found.notes == ()
    assert all(isinstance(group.role, Role) for group in found.groups)  # routers ask `role is SEEN`


def test_images_and_classes_that_came_are_noted_and_not_tested(pets: Path) -> None:
    recorded = written(inputs(pets))
    expected = inputs(pets).splits().groups
    for i in range(20, 40):
        picture(pets / "crow" / f"{i}.png")
    class_folder(pets / "ape", 6)
    now = inputs(pets)
    found = recorded_groups(recorded, now)
    assert found.groups == expected
    more = sum(e.path.parent.name == "crow" for e in now.data.test) - sum(
        e.path.parent.name == "crow" for e in expected[0].examples
    )
    assert more > 0
    assert found.notes == (
        f"new since the run and not tested: {counted(more, 'test image')} of 'pets'.",
        "new since the run and not tested: the class 'ape' of 'pets'.",
    )


def test_a_missing_test_image_is_refused_and_a_missing_training_image_is_not(pets: Path) -> None:
    splits = inputs(pets).splits()
    recorded = written(inputs(pets))
    splits.train[0].path.unlink()
    assert recorded_groups(recorded, inputs(pets)).groups == splits.groups
    splits.groups[0].examples[0].path.unlink()
    with pytest.raises(DataError, match=r"1 of the \d+ images that the run tested are no longer in 'pets': beagle/"):
        recorded_groups(recorded, inputs(pets))


def test_moved_data_are_found(pets: Path, tmp_path: Path) -> None:
    recorded = written(inputs(pets))
    before = inputs(pets).splits().groups
    pets.rename(tmp_path / "animals")
    found = recorded_groups(recorded, inputs(tmp_path / "animals"))
    assert [group_sha256(group) for group in found.groups] == [group_sha256(group) for group in before]
    assert all(e.path.is_file() for e in found.groups[0].examples)


def test_targets_are_found_below_their_own_folders(pets: Path, tmp_path: Path) -> None:
    shutil.copytree(pets, tmp_path / "other")
    both = inputs(pets, tmp_path / "other")
    settings = FitSettings("clip", data=str(pets), protocol="cross-dataset")
    before = Inputs(settings, both.data, both.targets)
    found = recorded_groups(written(before), before)
    assert found.groups == before.splits().groups
    with pytest.raises(DataError, match="tested 1 targets, but its settings name 0"):
        recorded_groups(written(before), inputs(pets))


def table(folder: Path, *rows: str) -> Path:
    file = folder / "list.csv"
    file.write_text("".join(f"{line}\n" for line in ("path,label,split", *rows)))
    return file


def test_a_table_whose_labels_and_splits_changed_is_tested_as_recorded(pets: Path) -> None:
    rows = [f"{kind}/{i:02}.png,{kind},{'train' if i < 6 else 'test'}" for kind in ("crow", "newt") for i in range(12)]
    before = inputs(table(pets, *rows))
    recorded, groups = written(before), before.splits().groups
    changed = [row.replace("crow/06.png,crow", "crow/06.png,newt") for row in rows]
    changed = [row.replace("newt/07.png,newt,test", "newt/07.png,newt,train") for row in changed]
    found = recorded_groups(recorded, inputs(table(pets, *changed)))
    assert found.groups == groups
    assert found.notes == ("of another class now and tested as recorded by the run: 1 test image of 'list'.",)


def test_new_names_follow_the_folders(pets: Path) -> None:
    recorded = written(inputs(pets))
    (pets / "classes.txt").write_text("small dog\nblack bird\namphibian\n")
    (group,) = recorded_groups(recorded, inputs(pets), rename=True).groups
    assert group.classes == ("small dog", "black bird", "amphibian")
    (group,) = recorded_groups(recorded, inputs(pets)).groups
    assert group.classes == ("beagle", "crow", "newt")

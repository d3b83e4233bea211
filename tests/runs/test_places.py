"""Runs find their data from any folder, and after they were moved together with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.command import call
from tests.world import World
from vlmadapt import FitSettings, evaluate, fit, load
from vlmadapt.runs.places import absolute, find_places, place_notes, relative_places
from vlmadapt.runs.run import Run


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pets", "birds"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    config = {
        "data": "pets",
        "targets": "birds, openmoji",
        "backbone": "ViT-B-16:weights.pt",
        "classes": None,
        "seed": 1,
    }
    assert absolute(config) == {
        "data": str(tmp_path / "pets"),
        "targets": f"{tmp_path / 'birds'},openmoji",
        "backbone": f"ViT-B-16:{tmp_path / 'weights.pt'}",
        "classes": None,
        "seed": 1,
    }
    names = {"data": "openmoji", "backbone": "ViT-B-16:openai", "targets": "hf:owner/name"}
    assert absolute(names) == names


def test_a_registered_name_is_not_taken_for_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("openmoji", "tiny", "openai", "owner/name"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert absolute({"data": "openmoji", "backbone": "tiny"}) == {"data": "openmoji", "backbone": "tiny"}
    for backbone in ("ViT-B-16:openai", "hf:owner/name", "hf-hub:owner/name"):
        assert absolute({"backbone": backbone}) == {"backbone": backbone}
    assert absolute({"data": "./openmoji"}) == {"data": str(tmp_path / "openmoji")}


def test_paths_are_found_at_the_same_place_from_the_run(tmp_path: Path) -> None:
    for name in ("old/pets", "old/runs/a", "new/pets", "new/runs/a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "new" / "w.pt").touch()
    old, new = tmp_path / "old", tmp_path / "new"
    settings = FitSettings(
        "clip", data=str(old / "pets"), backbone=f"ViT-B-16:{old / 'w.pt'}", targets=f"{old / 'pets'},a"
    )
    relative = relative_places(settings, old / "runs" / "a")
    assert relative == {str(old / "pets"): "../../pets", str(old / "w.pt"): "../../w.pt"}
    (old / "pets").rmdir()
    found = find_places(settings, new / "runs" / "a", relative)
    assert (found.data, found.targets) == (str(new / "pets"), f"{new / 'pets'},a")
    assert found.backbone == f"ViT-B-16:{new / 'w.pt'}"
    assert place_notes(settings, found)[0] == (
        f"data '{old / 'pets'}' does not exist; used instead: '{new / 'pets'}', which lies the same way from the run "
        "folder."
    )


def test_a_checkpoint_of_a_tag_and_a_folder_with_a_comma_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a,b", "run"):
        (tmp_path / "old" / name).mkdir(parents=True)
    (tmp_path / "old" / "w.pt").touch()
    monkeypatch.chdir(tmp_path / "old")
    config = absolute({"data": "a,b", "backbone": "ViT-B-16:openai:w.pt"})
    assert config == {
        "data": str(tmp_path / "old" / "a,b"),
        "backbone": f"ViT-B-16:openai:{tmp_path / 'old' / 'w.pt'}",
    }
    settings = FitSettings("clip", **config)
    relative = relative_places(settings, tmp_path / "old" / "run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").rename(tmp_path / "new")
    found = find_places(settings, tmp_path / "new" / "run", relative)
    assert found.data == str(tmp_path / "new" / "a,b")
    assert found.backbone == f"ViT-B-16:openai:{tmp_path / 'new' / 'w.pt'}"


def test_the_recorded_path_is_kept_where_it_exists_or_where_there_is_no_other(tmp_path: Path) -> None:
    for name in ("old/pets", "old/run", "new/run"):
        (tmp_path / name).mkdir(parents=True)
    settings = FitSettings("clip", data=str(tmp_path / "old" / "pets"))
    relative = relative_places(settings, tmp_path / "old" / "run")
    assert find_places(settings, tmp_path / "new" / "run", relative) == settings
    (tmp_path / "old" / "pets").rmdir()
    assert find_places(settings, tmp_path / "new" / "run", relative) == settings


@pytest.fixture
def relative_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `here` with data, backbone and a run that was given relative paths."""
    World.make(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    names = sorted(path.name for path in Path("pictures").iterdir())
    Path("names.txt").write_text("".join(f"{name}: class of {name}\n" for name in names))
    fit(FitSettings("clip", data="pictures", backbone="clip", classes="names.txt", shots=2, workers=0, out="run"))
    return tmp_path / "here"


def test_a_run_with_relative_paths_works_from_another_folder(
    relative_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = Run(relative_run / "run").result()
    accuracies, numbers = evaluate("here/run")
    assert before is not None and numbers == before["accuracy"]
    assert load("here/run").classes == tuple(accuracies[0].classes)
    fit(FitSettings("clip"), resume="here/run")


def test_a_run_that_was_moved_with_its_data_says_where_it_found_them(
    relative_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    relative_run.rename(tmp_path / "there")
    before = Run(tmp_path / "there" / "run").result()
    said = call(capsys, "evaluate", "there/run", "--json")
    assert said.code == 0
    assert (
        f"data '{relative_run / 'pictures'}' does not exist; used instead: '{tmp_path / 'there' / 'pictures'}'"
        in said.err
    )
    assert before is not None and yaml.safe_load(said.out)["accuracy"] == before["accuracy"]
    said = call(capsys, "fit", "--resume", "there/run")
    assert said.code == 0 and "does not exist; used instead" in said.err
    assert Run(tmp_path / "there" / "run").place_notes() == ()  # the new places are recorded now

"""Trained on one data set and tested on others, through `fit`, `evaluate` and the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator

from tests.world import World, result
from vlmadapt import evaluate
from vlmadapt.cli.main import main
from vlmadapt.core.classifier import Classifier
from vlmadapt.data.load import load_data
from vlmadapt.errors import DataError
from vlmadapt.evaluation.accuracy import distinct, group_of, predict_group, summary
from vlmadapt.evaluation.predict import load_classifier
from vlmadapt.runs.inputs import Inputs, checked_splits
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.runs.settings import FitSettings


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world: World, root: Path) -> Path:
    """A folder's classes, and two benchmarks as targets."""
    return world.fit(world.root / "run", targets="dtd, imagenet_a", data_root=str(root)).folder


def test_every_data_set_has_its_role_and_its_hash(run: Path) -> None:
    found = result(run)
    assert found["protocol"] == "cross-dataset"
    assert [(g["name"], g["role"], g["total"]) for g in found["groups"]] == [
        ("pictures", "seen", 8),
        ("dtd", "unseen", 6),
        ("imagenet_a", "unseen", 4),
    ]
    hashes = {g["data_sha256"] for g in found["groups"]} | {found["data_sha256"]}
    assert len(hashes) == 4
    assert all(len(digest) == 64 for digest in hashes)
    assert found["accuracy"]["target_average"] == pytest.approx(
        (found["accuracy"]["dtd"] + found["accuracy"]["imagenet_a"]) / 2, abs=1e-4
    )
    written = {g["name"]: g.get("templates") for g in Run(run).manifest()["test"]}
    assert written == {"pictures": None, "dtd": ["{} texture."], "imagenet_a": ["a photo of a {}."]}


def test_evaluate_repeats_it(run: Path, root: Path) -> None:
    accuracies, numbers = evaluate(run)
    assert numbers == result(run)["accuracy"]
    (alone,), _ = evaluate(run, data="dtd", data_root=root, role="unseen")
    repeated = accuracies[1]
    assert (alone.correct, alone.data_sha256) == (repeated.correct, repeated.data_sha256)


def test_role_by_names_unless_it_is_given(run: Path, world: World) -> None:
    (by_name,), _ = evaluate(run, data=str(world.pictures))
    (told,), _ = evaluate(run, data=str(world.pictures), role="unseen")
    assert (by_name.role, told.role) == ("seen", "unseen")
    assert by_name.data_sha256 != told.data_sha256


def test_targets_are_described_with_their_own_templates(run: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtd = load_data("dtd", root=root)
    classifier = load_classifier(run / "adapter", ["axolotl", "red_fox"])
    assert [t.text for t in classifier.templates] == ["a photo of a {}."]
    group = group_of(dtd, [])
    asked: list[Sequence[str]] = []
    plain = Classifier.scores

    def scores(self: Classifier, *given: object) -> torch.Tensor:
        asked.append([t.text for t in self.templates])
        return plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "scores", scores)
    session = Session(Accelerator(), Reporter(False), workers=0)
    answers = predict_group(classifier, group, session)
    assert asked == [["{} texture."]]
    direct = Classifier(classifier.backbone, classifier.method, ["{} texture."])
    expected = predict_group(direct, group, session)
    assert torch.equal(answers.confidence, expected.confidence)


def test_the_zero_shot_branch_of_a_target_is_described_likewise(run: Path) -> None:
    # The same class names in both: features kept for one description must not answer for the other.
    classifier = load_classifier(run / "adapter", ["cat", "dog"])
    images = torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        before = classifier.forward(images, ["cat", "dog"]).zero_shot.text
        described = classifier.with_templates(["{} texture."]).forward(images, ["cat", "dog"]).zero_shot.text
        again = classifier.forward(images, ["cat", "dog"]).zero_shot.text
    assert torch.equal(before, again)
    assert not torch.allclose(before, described)


def test_published_targets_are_the_default(root: Path) -> None:
    settings = FitSettings("clip", data="imagenet", protocol="domain-generalization", data_root=str(root)).resolved()
    assert settings.target_names == ["imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"]
    kept = FitSettings.from_config(yaml.safe_load(yaml.safe_dump(settings.to_config())))
    assert kept.targets == settings.targets
    assert len(FitSettings("clip", data="imagenet", protocol="cross-dataset").resolved().target_names) == 10
    with pytest.raises(DataError, match="needs data sets to test on: --targets"):
        Inputs.read(FitSettings("clip", protocol="cross-dataset").resolved()).splits()


def test_imagenet_and_its_variants_in_one_run(
    world: World, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--method", "clip", "--data", "imagenet", "--data_root", str(root), "--backbone", str(world.clip)]
    main([*given, "--protocol", "domain-generalization", "--workers", "0", "--out", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    assert "average of targets" in shown
    groups = result(tmp_path / "run")["groups"]
    assert [(g["role"], g["total"]) for g in groups] == [("seen", 8), *[("unseen", n) for n in (8, 8, 4, 4)]]
    main(
        [
            "evaluate",
            str(tmp_path / "run"),
            "--data",
            "imagenet_v2",
            "--data_root",
            str(root),
            "--role",
            "unseen",
            "--json",
        ]
    )
    told = json.loads(capsys.readouterr().out)
    assert told["groups"][0]["data_sha256"] == groups[1]["data_sha256"]
    assert told["groups"][0]["correct"] == groups[1]["correct"]


def test_custom_split(world: World, tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text("seen: [tabby cat, axolotl]\nunseen: [red_fox, jack-o'-lantern]\n")
    found = world.fit(tmp_path / "run", "clip", class_split=str(file)).numbers
    assert found["protocol"] == "custom"
    assert set(found["accuracy"]) == {"base", "novel", "harmonic_mean"}
    assert found["data_notes"] == []


def test_a_split_that_is_not_the_published_one_is_in_the_result(world: World, root: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "dtd").mkdir(parents=True)
    (tmp_path / "data" / "dtd" / "images").symlink_to(root / "dtd" / "images", target_is_directory=True)
    found = world.fit(tmp_path / "run", "clip", targets="dtd", data_root=str(tmp_path / "data")).numbers
    (note,) = found["data_notes"]
    assert "not the published one" in note


def test_only_images_that_are_used_have_to_be_readable(world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path / "run", "clip")
    inputs = Inputs.read(settings.resolved())
    splits = inputs.splits()
    used = {e.path for e in (*splits.train, *splits.val, *splits.groups[0].examples)}
    spare = next(e.path for e in inputs.examples() if e.path not in used)
    content = spare.read_bytes()
    try:
        spare.write_bytes(b"broken")
        assert checked_splits(inputs, Reporter(False))[1] == splits
        skipping = Inputs.read(world.settings(tmp_path / "run", "clip", skip_corrupt=True).resolved())
        _, without = checked_splits(skipping, Reporter(False))
        assert spare not in {e.path for e in without.train}
    finally:
        spare.write_bytes(content)


def test_names_that_come_twice_stay_apart() -> None:
    assert distinct(["missile", "cat", "missile"]) == ["missile", "cat", "missile (2)"]
    assert summary([]) == {}

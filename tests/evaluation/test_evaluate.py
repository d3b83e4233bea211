"""Testing a finished run again, on its own data and on others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from PIL import Image

from tests.data.pictures import class_folder, picture
from tests.world import CLASSES, World, result
from vlmadapt import FitResult, VlmadaptError, evaluate, load
from vlmadapt.data.dataset import Example
from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import AdapterError, DataError
from vlmadapt.evaluation import accuracy
from vlmadapt.evaluation.accuracy import evaluate_group, harmonic_mean, predict_group, role_of
from vlmadapt.roles import Role
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.session import Session
from vlmadapt.testing.host_waits import READS, host_waits


@pytest.fixture(scope="module")
def run(base_to_novel: FitResult) -> FitResult:
    return base_to_novel


@pytest.mark.parametrize(
    ("method", "protocol"),
    [
        ("mmrl", "few-shot"),
        ("mmrl", "all-classes"),
        ("coop", "base-to-novel"),
        ("gda-unseen", "base-to-novel"),
        ("clip", "few-shot"),
    ],
)
def test_a_finished_run_tests_as_it_did(world: World, tmp_path: Path, method: str, protocol: str) -> None:
    fitted = world.fit(tmp_path / "run", method, protocol=protocol)
    accuracies, numbers = evaluate(fitted.folder)
    assert numbers == fitted.numbers["accuracy"]
    again = [{name: value for name, value in a.to_json().items() if name != "seconds"} for a in accuracies]
    assert again == result(fitted.folder)["groups"]


def test_a_run_that_left_corrupt_images_out_tests_as_it_did(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.pictures, tmp_path / "pictures")
    for name in CLASSES:
        for number in (0, 3, 6):
            (tmp_path / "pictures" / name / f"0{number}.png").write_bytes(b"broken")
    fitted = world.fit(tmp_path / "run", data=str(tmp_path / "pictures"), skip_corrupt=True)
    assert evaluate(fitted.folder)[1] == fitted.numbers["accuracy"]


def test_images_that_came_since_are_not_tested(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.pictures, tmp_path / "pictures")
    fitted = world.fit(tmp_path / "run", "clip", data=str(tmp_path / "pictures"))
    for name in CLASSES:
        for number in range(20, 32):
            picture(tmp_path / "pictures" / name / f"{number}.png")
    capsys.readouterr()
    (accuracy,), numbers = evaluate(fitted.folder)
    assert numbers == fitted.numbers["accuracy"]
    assert accuracy.data_sha256 == fitted.numbers["groups"][0]["data_sha256"]
    assert "new since the run and not tested: " in capsys.readouterr().err


def test_other_data_are_one_group_of_all_their_images(run: FitResult, tmp_path: Path) -> None:
    for name in ("beagle", "crow", "newt"):
        class_folder(tmp_path / "others" / name, 4)
    (accuracy,), numbers = evaluate(run.folder, data=str(tmp_path / "others"))
    assert (accuracy.name, accuracy.role, accuracy.total) == ("others", "unseen", 12)
    assert tuple(accuracy.classes) == ("beagle", "crow", "newt")
    assert numbers == {"others": round(accuracy.percent, 4)}


def test_a_file_gives_the_names_of_other_data(run: FitResult, tmp_path: Path) -> None:
    for name in ("n01", "n02"):
        class_folder(tmp_path / "others" / name, 4)
    (tmp_path / "names.txt").write_text("n02: red fox\nn01: axolotl\n")
    (accuracy,), _ = evaluate(run.folder, data=str(tmp_path / "others"), classes=tmp_path / "names.txt")
    assert tuple(accuracy.classes) == ("axolotl", "red fox")
    assert accuracy.role == "unknown"  # one of the two was trained on


def test_a_file_gives_other_names_to_the_runs_own_data(run: FitResult, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("walking fish\npumpkin\nvixen\nstriped cat\n")
    accuracies, _ = evaluate(run.folder, classes=tmp_path / "names.txt")
    assert [tuple(a.classes) for a in accuracies] == [("walking fish", "pumpkin"), ("vixen", "striped cat")]


def test_an_option_of_the_method_may_be_changed(run: FitResult) -> None:
    (changed, _), _ = evaluate(run.folder, options={"alpha": 0.0})
    (unchanged, _), _ = evaluate(run.folder, options={})
    assert unchanged.correct == run.numbers["groups"][0]["correct"]
    assert changed.total == unchanged.total


def test_corrupt_images_of_other_data_are_named(run: FitResult, tmp_path: Path) -> None:
    for name in ("beagle", "crow"):
        class_folder(tmp_path / "others" / name, 1)
        (tmp_path / "others" / name / "more.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"images cannot be read: .*more.png"):
        evaluate(run.folder, data=str(tmp_path / "others"))


def test_each_image_is_decoded_once(run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("beagle", "crow"):
        class_folder(tmp_path / "others" / name, 3)
    opened: list[str] = []
    plain = Image.open

    def counting(path: Path, *args: Any, **options: Any) -> Image.Image:
        opened.append(f"{path.parent.name}/{path.name}")
        return plain(path, *args, **options)

    monkeypatch.setattr(Image, "open", counting)
    evaluate(run.folder, data=str(tmp_path / "others"))
    assert sorted(opened) == [f"{name}/0{i}.png" for name in ("beagle", "crow") for i in range(3)]


def test_data_without_test_images_are_refused(run: FitResult, tmp_path: Path) -> None:
    rows = [f"{picture(tmp_path / name / '0.png')},{name},train" for name in ("beagle", "crow")]
    (tmp_path / "others.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(DataError, match="'others' has no test images"):
        evaluate(run.folder, data=str(tmp_path / "others.csv"))


def test_images_that_the_run_was_trained_on_are_not_tested_wherever_they_are_now(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.pictures, tmp_path / "pictures")
    fitted = world.fit(tmp_path / "run", data=str(tmp_path / "pictures"))
    manifest = json.loads((fitted.folder / "data.json").read_text())
    used = len(manifest["train"]) + len(manifest["val"])
    capsys.readouterr()
    (accuracy,), _ = evaluate(fitted.folder, data=str(tmp_path / "pictures"))
    assert accuracy.total == 32 - used
    assert f"used in training and therefore not tested: {used} images of 'pictures'." in capsys.readouterr().err
    shutil.copytree(tmp_path / "pictures" / CLASSES[0], tmp_path / "others" / "renamed")
    class_folder(tmp_path / "others" / "crow", 2)
    mine = [name for name, _ in (*manifest["train"], *manifest["val"]) if name.startswith(CLASSES[0])]
    (accuracy,), _ = evaluate(fitted.folder, data=str(tmp_path / "others"))
    assert accuracy.total == 10 - len(mine)
    (tmp_path / "pictures").rename(tmp_path / "moved")
    (accuracy,), _ = evaluate(fitted.folder, data=str(tmp_path / "moved"))
    assert accuracy.total == 32 - used
    assert "no longer in" not in capsys.readouterr().err
    for name, _ in (manifest["train"][0], manifest["test"][0]["examples"][0]):
        (tmp_path / "moved" / name).unlink()
    (accuracy,), _ = evaluate(fitted.folder, data=str(tmp_path / "moved"))
    assert accuracy.total == 32 - used - 1
    lost = f"of the {used} images that the run was trained on are no longer in '{tmp_path / 'pictures'}'; copies"
    assert f"1 {lost}" in capsys.readouterr().err
    (accuracy,), _ = evaluate(fitted.folder, data=str(tmp_path / "others"))
    assert accuracy.total == 10
    assert f"{used} {lost}" in capsys.readouterr().err


def test_another_protocol_with_the_same_training(world: World, run: FitResult, tmp_path: Path) -> None:
    asked = world.fit(tmp_path / "run", protocol="all-classes")
    _, numbers = evaluate(run.folder, protocol="all-classes")
    assert numbers == asked.numbers["accuracy"]


def test_another_protocol_on_other_images_of_the_same_classes(run: FitResult, tmp_path: Path) -> None:
    for name in CLASSES:
        class_folder(tmp_path / "others" / name, 4)
    accuracies, _ = evaluate(run.folder, data=str(tmp_path / "others"), protocol="base-to-novel")
    assert [(a.name, a.role) for a in accuracies] == [("base", "seen"), ("novel", "unseen")]


def test_a_protocol_that_trains_on_other_classes_is_refused(run: FitResult) -> None:
    with pytest.raises(DataError, match="trains on 4 classes, not the 2"):
        evaluate(run.folder, protocol="few-shot")


def test_another_backbone_is_refused(world: World, run: FitResult, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="was made for the backbone"):
        evaluate(run.folder, backbone="tiny")


def test_a_backbone_may_have_moved(world: World, run: FitResult, tmp_path: Path) -> None:
    shutil.copytree(world.clip, tmp_path / "moved")
    _, numbers = evaluate(run.folder, backbone=str(tmp_path / "moved"))
    assert numbers == run.numbers["accuracy"]


def test_a_run_that_was_never_finished_has_no_adapter(world: World, run: FitResult, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    with pytest.raises(VlmadaptError, match="holds no adapter"):
        evaluate(tmp_path / "run")


def test_accuracy_by_class_is_of_its_own_images_and_none_without_any(run: FitResult, tmp_path: Path) -> None:
    """Each image is labelled with the predicted class, except one."""
    files = []
    for i in range(5):
        Image.new("RGB", (16, 16), (50 * i, 10, 200 - 30 * i)).save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    names = ("a", "b", "c", "never answered")
    answers = [best[0][0] for best in load(run.folder, names).predict(files)]
    labels = [names.index(answer) for answer in answers]
    labels[0] = (labels[0] + 1) % 3
    examples = tuple(Example(file, label) for file, label in zip(files, labels, strict=True))
    group = ClassGroup("mine", Role.UNSEEN, names, examples)
    accuracy = evaluate_group(run.classifier, group, Session(Accelerator(cpu=True), Reporter(), workers=0))
    assert (accuracy.correct, accuracy.total, accuracy.percent) == (4, 5, 80.0)
    for i, name in enumerate(names):
        right = sum(label == i for label in labels[1:])
        assert accuracy.classes[name] == (right / labels.count(i) if i in labels else None)
    expected: dict[str, dict[str, int]] = {name: {} for name in names}
    for label, answer in zip(labels, answers, strict=True):
        expected[names[label]][answer] = expected[names[label]].get(answer, 0) + 1
    assert accuracy.confusion == expected


@pytest.mark.parametrize(("a", "b", "mean"), [(80, 40, 160 / 3), (0, 50, 0), (0, 0, 0), (70, 70, 70)])
def test_the_harmonic_mean(a: float, b: float, mean: float) -> None:
    assert harmonic_mean(a, b) == pytest.approx(mean)


def test_classes_are_seen_unseen_or_mixed() -> None:
    assert role_of(["a", "b"], ["b", "a", "c"]) is Role.SEEN
    assert role_of(["a", "d"], ["a", "b"]) is Role.UNKNOWN
    assert role_of(["d"], ["a", "b"]) is Role.UNSEEN


def test_a_class_in_another_spelling_is_the_class_that_was_trained_on() -> None:
    """macOS spells accents in two characters, and folders differ in case and underscores."""
    assert role_of(["cafe\u0301", "Sea_Lion"], ["caf\u00e9", "sea lion"]) is Role.SEEN
    assert role_of(["cafe", "sea lion"], ["caf\u00e9", "sea lion"]) is Role.UNKNOWN


def test_no_batch_is_waited_for(run: FitResult, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the host would wait: predictions are read after the last batch, and kept texts are not compared."""
    classifier = run.classifier
    images = sorted((world.pictures / CLASSES[0]).glob("*.png"))[:6]
    group = ClassGroup("all", Role.SEEN, tuple(CLASSES), tuple(Example(path, 0) for path in images))
    session = Session(Accelerator(cpu=True), Reporter(False), workers=0)

    monkeypatch.setattr(accuracy, "BATCH", 1)
    predict_group(classifier, group, session)
    waits = host_waits(lambda: predict_group(classifier, group, session, zero_shot=True))
    reads = [w.place.function for w in waits if w.what == READS and "/data/" not in w.place.file]
    assert list(dict.fromkeys(reads)) == ["_predict_all", "<genexpr>", "predict_group"], "here, to see changes, for all"

"""`vlmadapt predict`: which images, where answers go, and what is skipped or not named."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.data.pictures import class_folder, picture
from tests.world import World
from vlmadapt import FitResult, load
from vlmadapt.evaluation import predictor as module

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A run of all classes, with validation images."""
    return world.fit(tmp_path_factory.mktemp("predict") / "run", "clip", protocol="few-shot")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    class_folder(tmp_path / "photos", 3)
    class_folder(tmp_path / "photos" / "more", 2)
    picture(tmp_path / "photos" / "__MACOSX" / "a.png")
    picture(tmp_path / "photos" / "._00.png")
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


def images(out: str) -> list[str]:
    return [json.loads(line)["image"] for line in out.splitlines()]


def test_folders_nested_folders_and_patterns(capsys: Capture, run: FitResult, photos: Path) -> None:
    predict = ("predict", str(run.folder), "--json")
    flat, nested = [f"{photos}/0{i}.png" for i in range(3)], [f"{photos}/more/0{i}.png" for i in range(2)]
    assert images(call(capsys, *predict, str(photos)).out) == flat
    assert images(call(capsys, *predict, str(photos), "--recursive").out) == [*flat, *nested]
    assert images(call(capsys, *predict, f"{photos}/0[01].png").out) == flat[:2]
    assert sorted(images(call(capsys, *predict, f"{photos}/**/*.png").out)) == sorted([*flat, *nested])
    assert call(capsys, *predict, f"{photos}/*.jpg").mistake() == f"no file matches '{photos}/*.jpg'."


def test_a_list_on_standard_input(
    capsys: Capture, run: FitResult, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [f"{photos}/00.png", f"{photos}/more/01.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*listed, "", ""])))
    assert images(call(capsys, "predict", str(run.folder), "-", "--json").out) == listed


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_answers_are_written_to_a_file_and_counted(
    capsys: Capture, run: FitResult, photos: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    out = tmp_path / f"found.{ending}"
    said = call(capsys, "predict", str(run.folder), str(photos), "--top", "2", "--out", str(out))
    assert said.code == 0, said.err
    files = [f"{photos}/0{i}.png" for i in range(3)]
    expected = list(load(run.folder).predict(files, top=2))
    if ending == "csv":
        rows = list(csv.reader(out.open(newline="")))
        assert rows[0] == ["image", "class", "probability", "class_2", "probability_2"]
        found = [(row[0], [(row[1], float(row[2])), (row[3], float(row[4]))]) for row in rows[1:]]
    else:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found = [(line["image"], [(c["name"], c["probability"]) for c in line["classes"]]) for line in lines]
        assert all(
            (line["class"], line["probability"]) == best[0] for line, (_, best) in zip(lines, found, strict=True)
        )
    assert [name for name, _ in found] == files
    for (_, best), wanted in zip(found, expected, strict=True):
        assert [name for name, _ in best] == [name for name, _ in wanted]
        assert [p for _, p in best] == pytest.approx([p for _, p in wanted], rel=1e-5)
    for name, count in Counter(best[0][0] for best in expected).items():
        assert any(name in row and f" {count} " in row for row in said.out.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"found.{ending}", "photos"]


def test_what_was_found_before_an_error_is_kept_under_another_name(
    capsys: Capture, run: FitResult, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    (photos / "02.png").write_bytes(b"broken")
    out = tmp_path / "found.csv"
    out.write_text("before")
    said = call(capsys, "predict", str(run.folder), str(photos), "--out", str(out))
    assert said.code == 2
    assert "02.png' cannot be read" in said.err
    assert "skip such images with --skip_corrupt" in said.err
    assert out.read_text() == "before"
    assert len((tmp_path / "found.csv.part").read_text().splitlines()) == 3


def test_broken_images_are_skipped_listed_and_told_by_the_exit_code(
    capsys: Capture, run: FitResult, photos: Path
) -> None:
    (photos / "01.png").write_bytes(b"broken")
    said = call(capsys, "predict", str(run.folder), str(photos), "--json", "--skip_corrupt")
    assert said.code == 1
    assert images(said.out) == [f"{photos}/00.png", f"{photos}/02.png"]
    (line,) = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert "01.png' cannot be read" in line


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_sorted_into_folders(
    capsys: Capture, run: FitResult, photos: Path, tmp_path: Path, copy: bool
) -> None:
    given = ["predict", str(run.folder), str(photos), "--recursive", "--sort_into", str(tmp_path / "sorted")]
    for _ in range(2):  # a second time changes nothing
        assert call(capsys, *given, *(["--copy"] if copy else [])).code == 0
        found = {path: path.read_bytes() for path in (tmp_path / "sorted").rglob("*") if path.is_file()}
        assert len(found) == 5
        assert all(path.is_symlink() is not copy for path in found)
    files = sorted([*photos.glob("0*.png"), *photos.glob("more/0*.png")])
    assert sorted(found.values()) == sorted(path.read_bytes() for path in files)
    for path, best in zip(files, load(run.folder).predict(files), strict=True):
        assert path.read_bytes() in [content for place, content in found.items() if place.parent.name == best[0][0]]


def test_uncertain_images_get_no_class(capsys: Capture, run: FitResult, world: World) -> None:
    predictor = load(run.folder)
    assert predictor.calibration is not None
    files = sorted(world.pictures.rglob("*.png"))
    best = [found[0][1] for found in predictor.predict(files)]
    for by in ("probability", "energy"):
        threshold = predictor.threshold(0.5, by)  # type: ignore[arg-type]
        said = call(
            capsys,
            "predict",
            str(run.folder),
            str(world.pictures),
            "--recursive",
            "--json",
            "--reject",
            "0.5",
            "--reject_by",
            by,
        )
        assert f"no class is named below the {by} {threshold.value:.4g}, found on " in said.err
        lines = [json.loads(line) for line in said.out.splitlines()]
        rejected = [line["class"] == "none of these" for line in lines]
        assert 0 < sum(rejected) < len(files)
        if by == "probability":
            assert rejected == [p < threshold.value for p in best]
    said = call(capsys, "predict", str(run.folder), str(files[0]), "--json", "--reject_below", "0.999999")
    assert json.loads(said.out)["class"] == "none of these"


def test_without_validation_images_no_threshold_is_chosen(
    capsys: Capture, base_to_novel: FitResult, world: World
) -> None:
    """The run chooses from classes that it was not trained on too."""
    file = str(next(world.pictures.rglob("*.png")))
    said = call(capsys, "predict", str(base_to_novel.folder), file, "--reject", "0.05")
    assert "no threshold can be chosen: the run has no validation images of exactly these classes" in said.mistake()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--top", "0"], "--top is 0"),
        (["--reject", "5"], "--reject is 5.0; it has to lie between 0 and 1"),
        (["--reject", "0.1", "--reject_below", "0.2"], "give one of them"),
        (["--workers", "0"], "--workers is 0"),
        (["--out", "found.xlsx"], "'found.xlsx' is neither .csv nor .jsonl"),
    ],
)
def test_options_that_make_no_sense(capsys: Capture, run: FitResult, given: list[str], message: str) -> None:
    assert message in call(capsys, "predict", str(run.folder), "a.png", *given).mistake()

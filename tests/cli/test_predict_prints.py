"""What `vlmadapt predict` prints, and which classes it chooses from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.data.pictures import class_folder
from tests.world import CLASSES, World
from vlmadapt import FitResult, load

Capture = pytest.CaptureFixture[str]


def files(world: World) -> list[str]:
    return [str(path) for path in sorted(world.pictures.rglob("*.png"))[:2]]


def test_predict_prints_the_best_classes_of_each_image(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    said = call(capsys, "predict", str(base_to_novel.folder), *files(world), "--top", "2")
    assert said.code == 0
    assert not said.err
    expected = list(load(base_to_novel.folder).predict(files(world), top=2))
    rows = [row for row in said.out.splitlines() if "%" in row]
    assert len(rows) == 4
    for row, (name, probability) in zip(rows, [best for image in expected for best in image], strict=True):
        assert name in row
        assert f"{100 * probability:.1f} %" in row


def test_the_table_is_short_and_the_counts_are_of_all_images(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, world: World, base_to_novel: FitResult
) -> None:
    monkeypatch.setattr("vlmadapt.cli.tables.predictions.MOST", 2)
    said = call(capsys, "predict", str(base_to_novel.folder), *files(world) * 3, "--top", "1")
    assert sum("%" in row for row in said.out.splitlines()) == 2
    assert "and 4 more images; --out FILE writes all" in said.out
    assert [row.split("│")[2].strip() for row in said.out.splitlines() if "│ all" in row] == ["6"]


def test_predict_prints_json_lines(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    said = call(capsys, "predict", str(base_to_novel.folder), *files(world), "--json", "--top", "3")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["image"] for line in lines] == files(world)
    for line, best in zip(lines, load(base_to_novel.folder).predict(files(world), top=3), strict=True):
        assert [(c["name"], c["probability"]) for c in line["classes"]] == best


def test_predict_names_five_classes_by_default(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    given = ("--classes", "a,b,c,d,e,f,g", "--json")
    said = call(capsys, "predict", str(base_to_novel.folder), files(world)[0], *given)
    assert len(json.loads(said.out)["classes"]) == 5


def test_predict_takes_classes_from_the_command_line_or_from_a_file(
    capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("moth\n\n big bus \n")
    said = [
        call(capsys, "predict", str(base_to_novel.folder), files(world)[0], "--classes", given, "--json")
        for given in ("moth, big bus", str(tmp_path / "classes.txt"))
    ]
    assert said[0] == said[1]
    assert {found["name"] for found in json.loads(said[0].out)["classes"]} == {"moth", "big bus"}


def test_predict_answers_for_all_images_in_a_folder(
    capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path
) -> None:
    class_folder(tmp_path / "mixed", 3)
    (tmp_path / "mixed" / "raw.cr2").touch()
    said = call(capsys, "predict", str(base_to_novel.folder), str(tmp_path / "mixed"), *files(world), "--json")
    images = [json.loads(line)["image"] for line in said.out.splitlines()]
    assert images == [*(str(tmp_path / "mixed" / f"0{i}.png") for i in range(3)), *files(world)]
    assert said.err == "not read: 1 .cr2.\n"


def test_predict_chooses_from_all_classes_of_the_run(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    said = call(capsys, "predict", str(base_to_novel.folder), files(world)[0], "--json")
    assert {found["name"] for found in json.loads(said.out)["classes"]} == set(CLASSES)

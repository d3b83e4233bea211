"""`vlmadapt evaluate`: what it prints, and on which data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.data.pictures import class_folder
from tests.world import CLASSES
from vlmadapt import FitResult

Capture = pytest.CaptureFixture[str]


def test_evaluate_prints_what_the_run_found(capsys: Capture, base_to_novel: FitResult) -> None:
    said = call(capsys, "evaluate", str(base_to_novel.folder))
    assert said.code == 0
    accuracy = base_to_novel.numbers["accuracy"]
    for line, name in (("base (2)", "base"), ("novel (2)", "novel"), ("harmonic mean", "harmonic_mean")):
        (found,) = [row for row in said.out.splitlines() if line in row]
        assert f"{accuracy[name]:.2f} %" in found
    said = call(capsys, "evaluate", str(base_to_novel.folder), "--json")
    assert said.code == 0, said.err
    as_json = json.loads(said.out)
    assert as_json["accuracy"] == accuracy
    assert [group["correct"] for group in as_json["groups"]] == [g["correct"] for g in base_to_novel.numbers["groups"]]


def test_evaluate_prints_scores_of_each_class(capsys: Capture, base_to_novel: FitResult) -> None:
    said = call(capsys, "evaluate", str(base_to_novel.folder), "--by", "class")
    assert said.code == 0
    scores = [(name, s) for group in base_to_novel.numbers["groups"] for name, s in group["by_class"].items()]
    assert len(scores) == len(CLASSES)
    for name, found in scores:
        shown = [f"{100 * found[key]:.1f} %" for key in ("recall", "precision", "f1") if found[key] is not None]
        (row,) = [line for line in said.out.splitlines() if line[2:].startswith(f"{name} ")]
        assert re.findall(r"[\d.]+ %", row) == shown
    assert said.out.count("mean over classes") == 2


def test_evaluate_takes_other_data_and_names_for_its_folders(
    capsys: Capture, base_to_novel: FitResult, tmp_path: Path
) -> None:
    for name in ("n1", "n2"):
        class_folder(tmp_path / "others" / name, 4)
    (tmp_path / "names.txt").write_text("beagle\ncrow\n")
    given = ("--data", str(tmp_path / "others"), "--classes", str(tmp_path / "names.txt"), "--json")
    said = call(capsys, "evaluate", str(base_to_novel.folder), *given)
    assert said.code == 0, said.err
    (group,) = json.loads(said.out)["groups"]
    assert (group["name"], group["role"], list(group["classes"])) == ("others", "unseen", ["beagle", "crow"])


def test_evaluate_reads_nested_folders_and_tables_with_other_columns(
    capsys: Capture, base_to_novel: FitResult, tmp_path: Path
) -> None:
    for name in ("wild/crow", "wild/fox", "beagle"):
        class_folder(tmp_path / "others" / name, 4)
    evaluate = ("evaluate", str(base_to_novel.folder), "--json")
    (group,) = json.loads(call(capsys, *evaluate, "--data", str(tmp_path / "others"), "--recursive").out)["groups"]
    assert (group["total"], list(group["classes"])) == (12, ["beagle", "wild/crow", "wild/fox"])
    rows = [f"{path};{path.parent.name}" for path in sorted((tmp_path / "others").rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["image;species", *rows]))
    given = ("--data", str(tmp_path / "list.csv"), "--columns", "path=image,label=species")
    (group,) = json.loads(call(capsys, *evaluate, *given).out)["groups"]
    assert (group["total"], list(group["classes"])) == (12, ["beagle", "crow", "fox"])


def test_evaluate_may_change_an_option_of_the_method(capsys: Capture, base_to_novel: FitResult) -> None:
    plain = call(capsys, "evaluate", str(base_to_novel.folder), "--json")
    same = call(capsys, "evaluate", str(base_to_novel.folder), "--json", "--method.alpha", "0.7")
    assert json.loads(same.out)["accuracy"] == json.loads(plain.out)["accuracy"]
    assert call(capsys, "evaluate", str(base_to_novel.folder), "--method.routing", "class").code == 0

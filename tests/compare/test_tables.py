from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest

from tests.compare import fake
from vlmadapt.cli.tables.compare import show
from vlmadapt.compare.aggregate import make_rows
from vlmadapt.compare.compare import make_results, write_results
from vlmadapt.compare.record import Comparison, comparison_of
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.accuracy import harmonic_mean
from vlmadapt.report.report import render


def test_means_and_deviations_are_over_seeds(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path)
    row = next(row for row in make_rows(made) if row.method == "coop")
    results = [entry.result() for entry in made.of("coop", "alpha", 16)]
    base = [result["accuracy"]["base"] for result in results if result]
    assert row.seeds == (1, 2, 3)
    assert row.accuracy["base"].mean == pytest.approx(mean(base))
    assert row.accuracy["base"].std == pytest.approx(stdev(base))
    expected = harmonic_mean(row.accuracy["base"].mean, row.accuracy["novel"].mean)
    assert row.accuracy["harmonic_mean"].mean == pytest.approx(expected)


def test_averages_need_every_data_set(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, data=("a", "b"))
    (made.of("coop", "b", 16)[0].folder / "result.json").unlink()
    assert {row.method for row in make_rows(made) if len(row.data) == 2} == {"clip", "coop", "mmrl++"}
    for entry in made.of("coop", "b", 16):
        (entry.folder / "result.json").unlink(missing_ok=True)
    now = Comparison.read(tmp_path)
    assert {row.method for row in make_rows(now) if len(row.data) == 2} == {"clip", "mmrl++"}


def test_files_say_the_same_and_carry_recipe_splits_and_versions(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path)
    results = make_results(made)
    write_results(results, made, tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    content = json.loads((tmp_path / "table.json").read_text())
    assert [row["method"] for row in rows] == [row["method"] for row in content["rows"]] == ["clip", "coop", "mmrl++"]
    assert float(rows[1]["harmonic_mean"]) == pytest.approx(
        content["rows"][1]["accuracy"]["harmonic_mean"]["mean"], 1e-4
    )
    for name in ("csv", "md", "tex", "json"):
        text = (tmp_path / f"table.{name}").read_text()
        assert "Recipe: uniform" in text and "000000000001" in text and "torch 1.0" in text
    assert (tmp_path / "table.tex").read_text().count(r"\\") == 4 + 3 + 4  # three tables


def test_latex_and_markdown_escape_what_they_must(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("a_b", "c|d"), seeds=(1,))
    write_results(make_results(made), made, tmp_path)
    assert r"a\_b" in (tmp_path / "table.tex").read_text()
    assert r"| c\|d |" in (tmp_path / "table.md").read_text()


HOSTILE = ("=cmd|'/c calc'!A1", "<script>alert(1)</script>", "[bold]b[/bold]", "@x", "-y", "+z", "a$b$c")


def test_names_are_shown_and_never_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = fake.comparison(tmp_path / "runs-of-names", ("clip",), seeds=(1,))
    entries = [replace(made.entries[0], method=name) for name in HOSTILE]
    made = replace(made, entries=tuple(entries))
    results = make_results(made)
    write_results(results, made, tmp_path)
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert [row[0].removeprefix("'") for row in rows[1:]] == list(HOSTILE)
    text = (tmp_path / "table.md").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and r"\|" in text
    show(results, "here")
    shown = capsys.readouterr().out
    assert "[bold]b[/bold]" in shown and "<script>" in shown
    page = render(made, results)
    assert "<script" not in page and "[bold]b[/bold]" in page


def test_negative_differences_stay_numbers(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), ("dtd",), backbone="ViT-B-16:openai")
    write_results(make_results(made), made, tmp_path)
    differences = [row["base_difference"] for row in csv.DictReader((tmp_path / "table.csv").read_text().splitlines())]
    assert all(difference == "" or float(difference) for difference in differences) and any(differences)


def test_failed_runs_are_counted_and_explained(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path)
    entries = [replace(e, error="it broke.") if (e.method, e.seed) == ("coop", 2) else e for e in made.entries]
    results = make_results(replace(made, entries=tuple(entries)))
    cells = dict(zip(results.tables[0].columns, results.tables[0].rows[1], strict=True))
    assert cells["seeds"] == "2 (1 failed)"
    assert "Failed: coop on alpha, seed 2: it broke." in results.notes


def test_different_machines_are_noted(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path)
    path = made.entries[0].folder / "environment.json"
    path.write_text(path.read_text().replace('"gpu": null', '"gpu": "H100"'))
    assert any("times cannot be compared" in note for note in make_results(made).notes)


def test_runs_by_several_versions_of_a_method_are_noted(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop"), seeds=(1, 2))

    def notes(*versions: str) -> list[str]:
        for entry, version in zip(made.of("coop", "alpha", 16), versions, strict=True):
            path = entry.folder / "environment.json"
            by = {"name": "coop", "distribution": "prompts", "version": version}
            path.write_text(json.dumps(json.loads(path.read_text()) | {"method": by}))
        return [note for note in make_results(made).notes if "several versions" in note]

    assert notes("0.1", "0.1") == []
    assert notes("0.2", "0.1") == [
        "Runs of coop were made by several versions of it (prompts 0.1, prompts 0.2); they may not be repeats."
    ]


def test_a_comparison_can_be_moved(tmp_path: Path) -> None:
    fake.comparison(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    found = Comparison.read(tmp_path / "there")
    assert all(entry.result() for entry in found.entries)


def test_runs_of_different_protocols_are_not_compared(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop"), seeds=(1,))
    config = made.entries[1].folder / "config.yaml"
    config.write_text(config.read_text().replace("base-to-novel", "few-shot"))
    with pytest.raises(VlmadaptError, match="only runs of one protocol and one backbone"):
        comparison_of([entry.folder for entry in made.entries])


@pytest.mark.parametrize(
    ("setting", "other", "differing"),
    [("train: {}", "train: {epochs: 3}", "train.epochs"), ("name: coop", "{name: coop, tokens: 4}", "method.tokens")],
)
def test_runs_of_one_method_with_other_settings_are_not_averaged(
    tmp_path: Path, setting: str, other: str, differing: str
) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop"), seeds=(1, 2))
    folders = [entry.folder for entry in made.entries]
    assert [len(row.seeds) for row in make_results(comparison_of(folders)).rows] == [2, 2]
    config = made.of("coop", "alpha", 16)[1].folder / "config.yaml"
    config.write_text(config.read_text().replace(setting, other))
    with pytest.raises(VlmadaptError, match=f"are both coop on alpha, with other {differing}; report them one at"):
        comparison_of(folders)


def test_a_result_is_kept_without_the_numbers_of_its_classes(tmp_path: Path) -> None:
    entry = fake.comparison(tmp_path, ("clip",), seeds=(1,)).entries[0]
    path = entry.folder / "result.json"
    group = {"name": "base", "correct": 1, "total": 2, "seconds": 3.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"groups": [{**group, "classes": {"cat": 50.0}}]}))
    (again,) = comparison_of([entry.folder]).entries
    result = again.result()
    assert result is not None
    assert result["groups"] == [group]
    assert result.keys() == json.loads(path.read_text()).keys()


def test_tests_on_other_images_are_noted(tmp_path: Path) -> None:
    folders = [entry.folder for entry in fake.comparison(tmp_path, ("clip", "coop"), seeds=(1,)).entries]

    def notes(*hashes: str) -> list[str]:
        for folder, sha256 in zip(folders, hashes, strict=True):
            path = folder / "result.json"
            counts: dict[str, object] = {"correct": 1, "total": 2, "classes": {}}
            groups = [{"name": "base", "data_sha256": sha256, **counts}, {"name": "novel", "data_sha256": "", **counts}]
            path.write_text(json.dumps(json.loads(path.read_text()) | {"groups": groups}))
        return [note for note in make_results(comparison_of(folders)).notes if "cannot be compared" in note]

    assert notes("a", "a") == []
    assert notes("a", "b") == [
        "These runs tested other images or classes of alpha (base); their accuracies cannot be compared."
    ]

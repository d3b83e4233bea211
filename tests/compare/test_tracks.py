"""Methods that are given different things are in tables of their own, and nothing ranks them against each other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from tests.compare import fake
from vlmadapt.cli.tables.plugins import plugins_table
from vlmadapt.compare.compare import Results, make_results, write_results
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.statistics_tables import statistics_tables
from vlmadapt.compare.tracks import by_track
from vlmadapt.registry.listing import list_plugins
from vlmadapt.report.content import make_charts
from vlmadapt.report.style import series_styles

METHODS = ("coop", "clip", "mmrl", "timo", "tda", "dclip")
PARTS = {
    "few-shot": ["coop", "clip", "mmrl"],
    "descriptions": ["clip", "timo", "dclip"],  # the reference is not of this track, so that zero-shot is first
    "test-time": ["clip", "tda"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return fake.comparison(tmp_path_factory.mktemp("tracks"), METHODS, ("a", "b", "c"), seeds=(1, 2))


@pytest.fixture(scope="module")
def results(made: Comparison) -> Results:
    return make_results(made)


def test_zero_shot_stands_in_each_track_and_is_the_reference_where_the_requested_one_is_not(made: Comparison) -> None:
    assert {part.track: part.comparison.methods for part in by_track(made)} == PARTS


def test_every_table_has_methods_of_one_track(results: Results) -> None:
    kinds = {tuple(sorted(methods)) for methods in PARTS.values()}
    tables = [*results.tables, *results.quality_tables]
    assert len(tables) == 3 * (4 + 3)  # three tracks on three data sets, and on their average
    assert {tuple(sorted(row[0].split()[0] for row in table.rows)) for table in tables} == kinds
    of_statistics = list(statistics_tables(results.statistics))
    assert {frozenset(row[0] for row in table.rows) for table in of_statistics} <= {
        frozenset(methods[start:]) for methods in PARTS.values() for start in (0, 1)
    }
    titles = [table.title for table in (*tables, *of_statistics)]
    assert all(title.endswith(("labelled images alone", "class descriptions", "test images")) for title in titles)


def test_rankings_and_sentences_stay_within_a_track(results: Results) -> None:
    assert results.statistics is not None
    for found in results.statistics:
        (methods,) = [methods for track, methods in PARTS.items() if track == found.track]
        assert found.reference == methods[0]
        assert set(found.best or methods) == set(methods)
        assert all(set(ranking.scores) == set(methods) for ranking in found.rankings)
    words = {"with labelled images alone": "few-shot", "with class descriptions": "descriptions"}
    for line in statistics_lines(results.statistics):
        own = PARTS[words.get(line.partition(":")[0], "test-time")]
        assert not set(re.findall(r"[a-z]+", line)) & (set(METHODS) - set(own)), line


def test_files_and_notes_name_the_track_of_each_method(made: Comparison, results: Results, tmp_path: Path) -> None:
    write_results(results, made, tmp_path)
    lines = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    content = json.loads((tmp_path / "table.json").read_text())
    expected = {"clip": "few-shot", "coop": "few-shot", "mmrl": "few-shot", "timo": "descriptions",
                "dclip": "descriptions", "tda": "test-time"}  # fmt: skip
    assert {line["method"]: line["track"] for line in lines} == expected
    for name in ("rows", "quality"):
        assert {row["method"]: row["track"] for row in content[name]} == expected
    assert results.notes[0] == (
        "Tracks, which are neither ranked nor tested against each other: with labelled images alone: coop, mmrl; with "
        "class descriptions: timo, dclip; with test images: tda. clip (zero-shot) stands in each."
    )


def test_charts_of_a_report_are_those_of_each_track(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("tda", "dclip"), seeds=(1,))
    described, test_time = make_charts(make_results(made), series_styles(made.methods))
    assert (described.title, described.methods) == ("with class descriptions", ["dclip"])
    assert (test_time.title, test_time.methods) == ("with test images", ["tda"])
    for charts, own, other in ((described.charts, "dclip", "tda"), (test_time.charts, "tda", "dclip")):
        assert len(charts) == 2
        assert all(own in chart.svg and other not in chart.svg for chart in charts)


def test_the_track_that_a_run_notes_goes_before_the_one_that_its_method_states(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop", "mma++"), seeds=(1,))
    path = made.of("mma++", "alpha", 16)[0].folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "track": "descriptions"}))
    assert {part.track: part.comparison.methods for part in by_track(made)} == {
        "few-shot": ["clip", "coop"],
        "descriptions": ["clip", "mma++"],
    }


def test_a_comparison_of_one_track_does_not_name_it(tmp_path: Path) -> None:
    found = make_results(fake.comparison(tmp_path, seeds=(1,)))
    assert [table.title for table in found.tables] == ["base-to-novel on alpha, tiny, 16 shots"]
    assert not any("Tracks" in note for note in found.notes)
    (alone,) = by_track(fake.comparison(tmp_path / "alone", ("clip",), seeds=(1,)))
    assert alone.comparison.methods == ["clip"]


def test_the_list_of_methods_has_a_table_for_each_track(capsys: pytest.CaptureFixture[str]) -> None:
    plugins_table([plugin for plugin in list_plugins("method") if plugin.name in METHODS])
    own, described, test_time = capsys.readouterr().out.split("methods, with ")[1:]
    for table, title, names in (
        (own, "labelled images alone", {"clip", "coop", "mmrl"}),
        (described, "class descriptions", {"dclip", "timo"}),
        (test_time, "test images", {"tda"}),
    ):
        assert table.startswith(title)
        assert set(re.findall(r"^│ (\S+)", table, re.MULTILINE)) == names

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.compare import fake
from vlmadapt.compare.aggregate import MeanStd, ResultRow
from vlmadapt.compare.compare import make_results
from vlmadapt.compare.published import match
from vlmadapt.compare.record import Comparison
from vlmadapt_published import alignednorm_reruns, mmrl_paper

VIT = "ViT-B-16:openai"


def compared(protocol: str = "base-to-novel", backbone: str = VIT) -> Comparison:
    return Comparison(protocol, backbone, "paper", (), {})


def row(method: str = "mmrl", data: tuple[str, ...] = ("dtd",), shots: int = 16) -> ResultRow:
    return ResultRow(method, data, shots, (1,), {"harmonic_mean": MeanStd(73.0)})


def test_a_published_number_is_found() -> None:
    found = match(row(), compared())
    assert found is not None
    assert found.values == {"base": 85.67, "novel": 65.0, "harmonic_mean": 73.82}


@pytest.mark.parametrize(
    ("other_row", "comparison"),
    [
        (row("mmrl++"), compared()),
        (row(data=("./dtd",)), compared()),
        (row(shots=8), compared()),
        (row(), compared(backbone="tiny")),
        (row(), compared(protocol="all-classes")),
        (row(data=("dtd", "eurosat")), compared()),
    ],
)
def test_nothing_is_claimed_where_anything_differs(other_row: ResultRow, comparison: Comparison) -> None:
    assert match(other_row, comparison) is None


def test_averages_and_transfer_are_found() -> None:
    everything = tuple({name for p in mmrl_paper() if len(p.data) == 1 for name in p.data})
    average = match(row(data=everything), compared())
    assert average is not None and average.values["harmonic_mean"] == 81.20
    transfer = match(row(data=("imagenet",)), compared("cross-dataset"))
    assert transfer is not None and transfer.values["eurosat"] == 53.10
    shots = match(row(shots=4), compared("few-shot"))
    assert shots is not None and shots.values == {"all": 67.87}


def test_exactly_the_known_numbers_do_not_follow_from_their_columns() -> None:
    flawed = {(p.method, p.protocol, len(p.data), p.shots, name) for p in mmrl_paper() for name in p.flaws}
    assert flawed == {
        ("metaprompt", "base-to-novel", 11, 16, "harmonic_mean"),
        ("metaprompt", "base-to-novel", 1, 16, "harmonic_mean"),
        ("mma", "base-to-novel", 1, 16, "harmonic_mean"),
        ("mmrl", "base-to-novel", 1, 16, "harmonic_mean"),
        ("mma", "base-to-novel", 11, 16, "novel"),
        ("maple", "few-shot", 11, 4, "all"),
    }


def test_flawed_numbers_stay_and_are_marked(tmp_path: Path) -> None:
    results = make_results(fake.comparison(tmp_path, ("clip", "mmrl"), ("dtd",), backbone=VIT))
    (table,) = results.tables
    published = dict(zip(table.columns, table.rows[1], strict=True))["published HM (difference)"]
    assert published.startswith("73.82* (")
    assert any(note.startswith("* mmrl: HM 73.82") and "73.92" in note for note in results.notes)


def test_reruns_by_others_are_kept_apart(tmp_path: Path) -> None:
    results = make_results(fake.comparison(tmp_path, ("mmrl", "mmrl++", "alignednorm"), ("dtd",), backbone=VIT))
    (table,) = results.tables
    lines = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [line["reruns HM"] for line in lines] == ["73.40, 73.66", "74.22, 74.04", "73.11"]
    assert [line["published HM (difference)"].split(" ")[0] for line in lines] == ["73.82*", "", "73.67"]
    sources = [note for note in results.notes if note.startswith("Rerun by ")]
    assert len(sources) == 2 and all("docs/RESULTS.md" in note for note in sources)


def test_averages_of_reruns_follow_from_their_columns() -> None:
    averages = {(p.method, p.rerun_by): p.values["harmonic_mean"] for p in alignednorm_reruns() if len(p.data) == 11}
    authors = "AlignedNorm's authors"
    assert averages["mmrl", authors] == 80.72 and averages["mmrl++", authors] == 81.43
    assert averages["alignednorm", ""] == 81.45
    for p in alignednorm_reruns():
        base, novel = p.values["base"], p.values["novel"]
        assert p.values["harmonic_mean"] == pytest.approx(2 * base * novel / (base + novel), abs=0.015)


def test_known_leaks_are_marked(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "tip-adapter-f", "mmrl"), ("dtd",))
    entries = tuple(replace(e, recipe=("mmrl/paper.yaml", "mmrl/datasets/dtd.yaml")) if e.method == "mmrl" else e
                    for e in made.entries)  # fmt: skip
    results = make_results(replace(made, entries=entries))
    assert [row[0] for row in results.tables[0].rows] == ["clip", "tip-adapter-f †", "mmrl ‡"]
    assert any(note.startswith("† tip-adapter-f: ") and "best on the test images" in note for note in results.notes)
    assert any(note.startswith("‡ mmrl: ") and "mmrl/datasets/dtd.yaml" in note for note in results.notes)

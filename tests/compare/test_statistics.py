from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.compare import fake
from vlmadapt.compare.aggregate import make_rows
from vlmadapt.compare.compare import make_results
from vlmadapt.compare.predictions import read_correct
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.statistics import Statistics, holm_bonferroni

SIX = ("a", "b", "c", "d", "e", "f")


def statistics_of(comparison: Comparison) -> Statistics:
    found = make_results(comparison).statistics
    assert found is not None
    return found[0]


def test_holm_bonferroni_on_numbers_worked_by_hand() -> None:
    assert holm_bonferroni({"x": 0.01, "y": 0.04, "z": 0.03}) == pytest.approx({"x": 0.03, "z": 0.06, "y": 0.06})


def test_image_intervals_hold_the_difference_and_are_paired(tmp_path: Path) -> None:
    found = statistics_of(fake.comparison(tmp_path, ("clip", "mmrl")))
    (interval,) = found.images
    rows = {row.method: row.accuracy["harmonic_mean"].mean for row in make_rows(Comparison.read(tmp_path))}
    assert interval.difference == pytest.approx(rows["mmrl"] - rows["clip"], abs=1e-6)
    assert interval.low < interval.difference < interval.high


def test_a_method_that_answers_alike_differs_by_nothing(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"))
    for entry in made.of("mmrl", "alpha", 16):
        twin = next(e for e in made.of("clip", "alpha", 16) if e.seed == entry.seed)
        for name in ("answers.json", "result.json"):
            (entry.folder / name).write_bytes((twin.folder / name).read_bytes())
    (interval,) = statistics_of(made).images
    assert (interval.low, interval.difference, interval.high) == (0, 0, 0)


def test_the_interval_of_a_single_group_is_about_the_normal_one(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), seeds=(1,))
    for entry in made.entries:
        for name in ("answers", "data"):
            path = entry.folder / f"{name}.json"
            path.write_text(path.read_text().replace('"base"', '"all"'))
        result = json.loads((entry.folder / "result.json").read_text())
        result["accuracy"] = {"all": result["accuracy"]["base"]}
        (entry.folder / "result.json").write_text(json.dumps(result))
    found = statistics_of(made)
    assert found.metric == "all"
    a, b = (read_correct(made.of(m, "alpha", 16)[0])["all"].correct for m in ("clip", "mmrl"))
    half = 1.96 * 100 * (b - a).std(ddof=1) / np.sqrt(len(a))
    (interval,) = found.images
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)


@pytest.mark.parametrize(("targets", "over"), [(("beta",), "beta"), (("beta", "gamma"), "the targets of alpha")])
def test_intervals_name_the_data_whose_images_are_counted(tmp_path: Path, targets: tuple[str, ...], over: str) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), seeds=(1,), protocol="cross-dataset")
    for entry in made.entries:
        data = json.loads((entry.folder / "data.json").read_text())
        answers = json.loads((entry.folder / "answers.json").read_text())
        result = json.loads((entry.folder / "result.json").read_text())
        names = ("alpha", *targets)
        result["accuracy"] = dict.fromkeys(names, 50.0) | ({"target_average": 50.0} if len(targets) > 1 else {})
        content = {
            "data": {**data, "test": [{**data["test"][0], "name": name} for name in names]},
            "answers": [{**answers[0], "name": name} for name in names],
            "result": result,
        }
        for name, said in content.items():
            (entry.folder / f"{name}.json").write_text(json.dumps(said))
    (interval,) = statistics_of(made).images
    assert interval.over == f"test images of {over}"


def test_few_runs_claim_nothing(tmp_path: Path) -> None:
    found = statistics_of(fake.comparison(tmp_path, ("clip", "mmrl"), ("a", "b"), seeds=(1,)))
    assert not found.datasets and not found.p_values and not found.ranks
    said = " ".join(found.refusals)
    assert "2 data sets cannot show" in said and "no Wilcoxon test" in said and "with 1 seed " in said


def test_many_data_sets_give_intervals_ranks_and_a_test(tmp_path: Path) -> None:
    found = statistics_of(fake.comparison(tmp_path, ("clip", "mmrl"), SIX))
    (interval,) = found.datasets
    assert 0 < interval.low < interval.difference < interval.high
    assert found.ranks == {"clip": 2.0, "mmrl": 1.0}
    assert found.p_values == {"mmrl": pytest.approx(2 / 2**6)}
    assert found.refusals == () and found.advice == ()
    assert interval.over == "6 data sets, seeds, test images"
    lines = list(statistics_lines([found]))
    assert "probability of the best average on data sets like these: mmrl 100 %" in lines
    assert "mmrl has the best average whichever data set is left out." in lines


def test_few_data_sets_are_taken_as_given(tmp_path: Path) -> None:
    found = statistics_of(fake.comparison(tmp_path, ("clip", "mmrl"), SIX[:2]))
    (interval,) = found.fixed
    assert interval.over == "seeds and test images of these 2 data sets" and interval.low > 0
    assert not found.datasets and not found.rankings
    average = next(row for row in make_rows(Comparison.read(tmp_path)) if len(row.data) == 2 and row.method == "mmrl")
    reference = next(row for row in make_rows(Comparison.read(tmp_path)) if len(row.data) == 2)
    known = average.accuracy["harmonic_mean"].mean - reference.accuracy["harmonic_mean"].mean
    assert interval.difference == pytest.approx(known)


def test_an_undecided_comparison_says_what_would_decide_it(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), SIX)
    for entry in made.of("mmrl", "a", 16):  # one data set on which it is as bad as it is good on the others
        path = entry.folder / "result.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps(known | {"accuracy": dict.fromkeys(known["accuracy"], 5.0)}))
        (entry.folder / "answers.json").unlink()
    found = statistics_of(made)
    (advice,) = found.advice
    assert advice.general and advice.sets and advice.seeds is None
    lines = list(statistics_lines([found]))
    assert any(f"{advice.sets} more data sets with 3 seeds would show it with 80 %" in line for line in lines)
    assert any(line.endswith("probability; more seeds alone would not.") for line in lines)


def test_ranks_are_averaged_over_data_sets_and_ties_share_theirs(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "coop", "mmrl"), SIX[:5], seeds=(1,))
    scores = {"clip": (5, 5, 1, 1, 5), "coop": (4, 4, 2, 2, 5), "mmrl": (3, 3, 3, 3, 5)}
    for entry in made.entries:
        path = entry.folder / "result.json"
        value = float(scores[entry.method][SIX.index(entry.data)])
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"all": value}}))
    # clip 1 1 3 3 2, coop 2 2 2 2 2, mmrl 3 3 1 1 2
    assert statistics_of(made).ranks == pytest.approx({"clip": 2.0, "coop": 2.0, "mmrl": 2.0})
    path = made.of("mmrl", "a", 16)[0].folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"all": 9.0}}))
    # in the first data set now mmrl 1, clip 2, coop 3
    made = Comparison.read(tmp_path)
    assert statistics_of(made).ranks == pytest.approx({"clip": 11 / 5, "coop": 11 / 5, "mmrl": 8 / 5})


def test_methods_with_the_same_numbers_in_another_order_tie(tmp_path: Path) -> None:
    """A sum of floats depends on their order."""
    values = (41.6667, 33.3333, 66.6667)
    assert sum(values) != sum(values[-1:] + values[:-1])
    made = fake.comparison(tmp_path, ("clip", "coop"), SIX)
    for entry in made.entries:
        path = entry.folder / "result.json"
        value = values[entry.seed - 1 if entry.method == "clip" else entry.seed - 2]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"all": value}}))
    found = statistics_of(made)
    assert found.ranks == {"clip": 1.5, "coop": 1.5}
    assert found.p_values == {"coop": 1.0}
    assert not any(ranking.turned for ranking in found.rankings)


def test_images_are_only_paired_with_themselves(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), seeds=(1,))
    assert statistics_of(made).images
    path = made.of("mmrl", "alpha", 16)[0].folder / "data.json"
    path.write_text(path.read_text().replace('"novel/39.png"', '"novel/40.png"'))
    assert statistics_of(made).images == ()  # as many images, but not the same


def test_a_method_without_any_difference_still_counts_as_a_comparison(tmp_path: Path) -> None:
    seven = (*SIX, "g")
    made = fake.comparison(tmp_path, ("clip", "coop", "mmrl"), seven, seeds=(1,))
    for entry in made.entries:
        path = entry.folder / "result.json"
        value = 50.0 + (1.0 + seven.index(entry.data)) * (entry.method == "mmrl")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"all": value}}))
    # the exact two-sided p of seven positive differences is 2 / 2^7, times two comparisons
    assert statistics_of(made).p_values == pytest.approx({"mmrl": 4 / 2**7, "coop": 1.0})


def test_a_failed_reference_is_said_and_not_worked_around(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"))
    for entry in made.of("clip", "alpha", 16):
        (entry.folder / "result.json").unlink()
    assert any("no comparison with clip" in line for line in statistics_of(made).refusals)

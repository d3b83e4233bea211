from __future__ import annotations

from vlmadapt.compare.leave_one_out import Ranking
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.statistics import Statistics
from vlmadapt.compare.statistics_tables import statistics_tables
from vlmadapt.compare.variance import Advice, VarianceSplit

FOUND = Statistics(
    16,
    "harmonic_mean",
    "mmrl",
    (),
    rankings=(
        Ranking("", {"a": 81.45, "b": 81.43}),
        Ranking("dtd", {"a": 82.0, "b": 81.0}),
        Ranking("eurosat", {"b": 80.61, "a": 80.48}, (("b", "a"),)),
    ),
    variances=(VarianceSplit("a", 0.13, 4.0, 3.0, 1.0), VarianceSplit("b", 0.5, 0.0, 0.0, 0.0)),
    seeds=3,
    best={"a": 0.52, "b": 0.47, "mmrl": 0.01},
    advice=(
        Advice("a", True, 14, None),
        Advice("b", False, None, 2),
        Advice("a", True, None, None),
        Advice("b", True, None, None),
    ),
)


def test_sentences_say_what_decides_and_what_would() -> None:
    assert list(statistics_lines([FOUND])) == [
        "probability of the best average on these data sets alone: a 52 %, b 47 %",
        "eurosat decides: without it b has the best average (80.61, a 80.48); with it a has (81.45, b 81.43).",
        "orders that hold only with a single data set: a above b (eurosat)",
        "most of the uncertainty comes from data sets: 67 % of the variance",
        "a against mmrl: undecided; if the difference is +0.13, 14 more data sets with 3 seeds would show it with 80 % "
        "probability; more seeds alone would not.",
        "b against mmrl on these data sets alone: undecided; if the difference is +0.50, 2 more seeds on these data "
        "sets would show it with 80 % probability.",
        "a, b against mmrl: undecided; differences as small as these would not show with 500 data sets.",
    ]


def test_tables_of_the_same() -> None:
    differences, left_out = statistics_tables([FOUND])
    assert differences.rows[0] == ("a", "+0.13", "", "52 %", "67 %", "17 %", "17 %")
    assert left_out.columns == ("method", "all", "without dtd", "without eurosat")
    assert left_out.rows == (("a", "81.45", "82.00", "80.48"), ("b", "81.43", "81.00", "80.61"))
    assert [next(iter(best)) for best in left_out.best[1:]] == [0, 0, 1]

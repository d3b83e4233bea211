"""What can go wrong in a chart without failing: names that cover each other, ticks that make no sense."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from vlmadapt.compare.aggregate import MeanStd, ResultRow
from vlmadapt.report import charts
from vlmadapt.report.style import series_styles


def row(method: str, shots: int = 16, accuracy: float = 70.0, parameters: int = 0) -> ResultRow:
    return ResultRow(method, ("alpha",), shots, (1,), {"all": MeanStd(accuracy)}, parameters=parameters)


@pytest.mark.parametrize("count", [3, 25])
def test_every_line_is_named_and_no_name_covers_another(count: int) -> None:
    methods = [f"a-method-with-a-long-name-{i}" for i in range(count)]
    rows = [row(method, shots, 70 + i % 3 / 100) for i, method in enumerate(methods) for shots in (1, 16)]
    figure = charts.shot_curves(rows, "all", series_styles(methods))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    # An annotation's own extent has the line to its point in it.
    boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)
    assert {text.get_text() for text in axes.texts} == set(methods)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    assert boxes[0].y0 >= 0 and boxes[-1].y1 <= figure.bbox.y1 and max(box.x1 for box in boxes) <= figure.bbox.x1


def test_names_at_the_ends_of_lines_are_in_the_order_of_the_lines() -> None:
    accuracies = {"low": 10.0, "high": 90.0, "middle": 10.1}
    rows = [row(method, shots, value) for method, value in accuracies.items() for shots in (1, 2)]
    (axes,) = charts.shot_curves(rows, "all", series_styles(list(accuracies))).axes
    assert [text.get_text() for text in axes.texts] == ["low", "middle", "high"]


def test_a_log_axis_of_costs_has_ticks_for_nothing_and_for_powers_of_ten() -> None:
    parameters = {"clip": 0, "coop": 512, "mmrl": 938_240}
    rows = [row(method, parameters=count) for method, count in parameters.items()]
    assert ticks(charts.against_cost(rows, "all", "parameters", series_styles(list(parameters))).axes[0]) == [
        0,
        1e3,
        1e4,
        1e5,
    ]


def test_similar_costs_have_a_linear_axis() -> None:
    rows = [row("coop", parameters=512), row("cocoop", parameters=2048)]
    axes = charts.against_cost(rows, "all", "parameters", series_styles(["coop", "cocoop"])).axes[0]
    assert axes.get_xscale() == "linear"


def ticks(axes: Axes) -> list[float]:
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


def test_a_baseline_is_a_line_only_where_the_methods_keep_their_room() -> None:
    rows = [row("coop", accuracy=70.0), row("mmrl", accuracy=74.0)]
    (axes,) = charts.dots(rows, "all", series_styles(["coop", "mmrl"]), {"chance": 5.0, "zero-shot": 68.0}).axes
    assert [text.get_text() for text in axes.texts] == ["zero-shot"]
    assert "left of the chart: chance 5.0" in axes.get_xlabel()
    assert axes.get_xlim()[0] > 50

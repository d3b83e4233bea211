from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from vlmadapt.compare.aggregate import MeanStd, ResultRow
from vlmadapt.report import charts
from vlmadapt.report.style import COLOURS, MARKERS, series_styles, to_png, to_svg

METHODS = ("clip", "a$b$c", "<b>&")


def chart(name: str, described: str = "a chart") -> str:
    rows = [ResultRow(m, ("alpha",), 16, (1,), {"all": MeanStd(60.0 + i, 1.0)}) for i, m in enumerate(METHODS)]
    return to_svg(charts.dots(rows, "all", series_styles(METHODS)), name, described)


def test_a_chart_is_one_svg_element_without_size_font_and_metadata() -> None:
    text = chart("one")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and text.startswith("<svg ")
    assert "viewBox" in root.attrib and not {"width", "height"} & root.attrib.keys()
    assert "font-family" not in text and "<metadata" not in text
    assert "currentColor" in text and "var(--line)" in text


def test_a_description_is_escaped() -> None:
    text = chart("one", 'dots of "alpha" & <beta>')
    assert ElementTree.fromstring(text).attrib["aria-label"] == 'dots of "alpha" & <beta>'
    assert "<beta>" not in text


def test_names_are_drawn_as_they_are() -> None:
    words = {"".join(element.itertext()) for element in ElementTree.fromstring(chart("one")).iter()}
    assert words >= set(METHODS)


def test_every_reference_inside_a_chart_has_its_target() -> None:
    text = chart("one")
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    ids = re.findall(r' id="([^"]+)"', text)
    assert targets and targets <= set(ids) and len(ids) == len(set(ids))


def test_charts_of_other_names_share_no_ids() -> None:
    one, other = (set(re.findall(r' id="([^"]+)"', chart(name))) for name in ("one", "other"))
    assert one and not one & other


def test_styles_repeat_colours_with_another_marker() -> None:
    styles = list(series_styles([str(i) for i in range(len(COLOURS) + 1)]).values())
    assert (styles[0].colour, styles[0].marker) == (COLOURS[0], MARKERS[0])
    assert (styles[-1].colour, styles[-1].marker) == (COLOURS[0], MARKERS[1])
    assert len(set(styles)) == len(styles)


def test_a_png_is_drawn_on_white_with_the_colours_of_the_methods(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    row = ResultRow("clip", ("alpha",), 16, (1,), {"all": MeanStd(60.0)})
    to_png(charts.dots([row], "all", series_styles(["clip"])), tmp_path / "chart.png", width=400)
    drawn = Image.open(tmp_path / "chart.png").convert("RGB")
    assert drawn.width == 400 and drawn.getpixel((1, 1)) == (255, 255, 255)
    assert tuple(bytes.fromhex(COLOURS[0][1:])) in {colour for _, colour in drawn.getcolors(maxcolors=2**24) or ()}

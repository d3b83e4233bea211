"""Style of all charts: a colour and a marker for each method, text and lines in the colours of the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from vlmadapt.errors import VlmadaptError
from vlmadapt.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f7ed8", "#e07b00", "#1d9a6c", "#d1495b", "#8f63c9", "#9a6a4f", "#d766b0", "#7d8a2e", "#16a0b0", "#7c8796")
"""Readable on white and on near-black."""
MARKERS = ("o", "s", "^", "D", "v")
INK, GRID = "#010203", "#040506"
"""Placeholders for the text and line colours of the page, which follow the reader's light or dark mode."""
WIDTH, HEIGHT = 4.2, 3.3
"""Inches; small, so that text stays readable on a phone."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
"""XML namespaces."""


@dataclass(frozen=True)
class SeriesStyle:
    """Colour and marker of a method in every chart."""

    colour: str
    marker: str


def series_styles(methods: Sequence[str]) -> dict[str, SeriesStyle]:
    """A style for each method; when the colours are used up, they repeat with another marker."""
    return {
        method: SeriesStyle(COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)])
        for i, method in enumerate(methods)
    }


def new_chart(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Make an empty chart.

    Raises:
        VlmadaptError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise VlmadaptError("reports need matplotlib: pip install 'vlmadapt[report]'.") from error
    settings: dict[Any, Any] = {
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GRID,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def plain(name: str) -> str:
    """A name for a chart, in which `$` does not start a formula."""
    return name.replace("$", r"\$")


def to_png(figure: Figure, path: Path, width: int = 900) -> None:
    """Draw a chart on white, for places that do not take SVG.

    Args:
        figure: the chart.
        path: file to be written.
        width: width in pixels.
    """
    import resvg_py

    svg = _svg(figure, path.stem, "path").replace(INK, "#1c2430").replace(GRID, "#c9d0d8")
    unitless = svg.replace('pt"', '"')  # resvg refuses sizes in points
    png = resvg_py.svg_to_bytes(svg_string=unitless, width=width, background="#ffffff", skip_system_fonts=True)
    with replacing(path) as (temporary,):
        temporary.write_bytes(bytes(png))


def to_svg(figure: Figure, name: str, described: str) -> str:
    """Draw a chart as inline SVG in the page's colours and font, as wide as its container.

    Args:
        figure: the chart.
        name: name that is unique on the page; it keeps ids apart from those of other charts.
        described: description for screen readers.
    """
    root = ElementTree.fromstring(_svg(figure, name, "none"))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": described}
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        if element.tag == f"{{{SVG}}}g":
            element.attrib.pop("id", None)  # the same in every chart, and nothing refers to them
        if "style" in element.attrib:
            element.attrib["style"] = _without_font(element.attrib["style"])
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    return text.replace(INK, "currentColor").replace(GRID, "var(--line)")


def _without_font(style: str) -> str:
    """CSS declarations without the font family."""
    declarations = [part.strip() for part in style.split(";")]
    return "; ".join(part for part in declarations if part and not part.startswith("font-family:"))


def _svg(figure: Figure, name: str, text_as: str) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.fonttype": text_as, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def marker_svg(style: SeriesStyle) -> str:
    """The method's marker, for the legend."""
    shapes = {
        "o": '<circle cx="6" cy="6" r="4.5"/>',
        "s": '<rect x="2" y="2" width="8" height="8"/>',
        "^": '<path d="M6 1 L11 10.5 L1 10.5 Z"/>',
        "D": '<path d="M6 0.5 L11.5 6 L6 11.5 L0.5 6 Z"/>',
        "v": '<path d="M6 11 L11 1.5 L1 1.5 Z"/>',
    }
    start = f'<svg class="marker" viewBox="0 0 12 12" fill="{style.colour}" aria-hidden="true">'
    return f"{start}{shapes[style.marker]}</svg>"

"""How every chart styles: one colour and one marker for each method, text and lines in the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmadapt.errors import VlmadaptError
from vlmadapt.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f7ed8", "#e07b00", "#1d9a6c", "#d1495b", "#8f63c9", "#9a6a4f", "#d766b0", "#7d8a2e", "#16a0b0", "#7c8796")
"""Readable on white and on near-black."""
MARKERS = ("o", "s", "^", "D", "v")
INK, GRID = "#010203", "#040506"
"""Stand for the page's text and line colours, which follow the reader's light or dark mode."""
WIDTH, HEIGHT = 4.2, 3.3
"""Inches; small, so that text stays readable where the page is as narrow as a phone."""


@dataclass(frozen=True)
class SeriesStyle:
    """Of one method, in every chart."""

    colour: str
    marker: str


def series_styles(methods: Sequence[str]) -> dict[str, SeriesStyle]:
    """A style for each method: colours first, another marker for each round of colours."""
    return {
        method: SeriesStyle(COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)])
        for i, method in enumerate(methods)
    }


def new_chart(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty chart.

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


def to_png(figure: Figure, path: Path, width: int = 900) -> None:
    """The chart on white, for places that do not take SVG.

    Args:
        figure: the chart.
        path: file to be written.
        width: in pixels.
    """
    import resvg_py

    svg = _svg(figure, path.stem, "path").replace(INK, "#1c2430").replace(GRID, "#c9d0d8")
    unitless = svg.replace('pt"', '"')  # resvg refuses sizes in points
    picture = resvg_py.svg_to_bytes(svg_string=unitless, width=width, background="#ffffff", skip_system_fonts=True)
    with replacing(path) as (temporary,):
        temporary.write_bytes(bytes(picture))


def to_svg(figure: Figure, name: str, described: str) -> str:
    """Inline SVG that takes the page's colours and the width there is.

    Args:
        figure: the chart.
        name: unique on the page; keeps the ids inside apart from those of other charts.
        described: what it shows, for those who do not see it.
    """
    svg = _svg(figure, name, "none")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)  # the page's own
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(described)}"', 1)


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

"""Names next to points and at the ends of lines, placed so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmadapt.report.style import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

PLACES = ((7, 0, "left"), (-7, 0, "right"), (0, 9, "center"), (0, -9, "center"), (6, 8, "left"), (6, -8, "left"),
          (-6, 8, "right"), (-6, -8, "right"))  # fmt: skip
"""Candidate offsets from the point in points, with the alignment of the name; the first free one is taken."""
MARK = 4.5
"""Half the size of a marker, in points."""
LINE = 10.5
"""Height of a name, in points."""


def label_points(axes: Axes, points: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each (name, x, y, colour) next to its point; a name without a free place is left out."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    taken = [*_markers(axes, points), *_bars(axes), *(text.get_window_extent() for text in axes.texts)]
    for point in points:
        box = _label_point(axes, point, taken)
        if box is not None:
            taken.append(box)


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write each (name, y, colour) right of the axes with a line to the height y; the layout makes room for the names.

    Names keep the order of their heights, and all of them fit if the axes are high enough.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    ordered = sorted(ends, key=lambda end: end[1])
    line = LINE * figure.dpi / 72 / axes.get_window_extent().height
    (low, high), height = axes.get_ylim(), -line / 2
    for i, (name, y, colour) in enumerate(ordered):
        highest = 1 - (len(ordered) - i - 0.5) * line
        height = max(height + line, min((y - low) / (high - low), highest))
        axes.annotate(
            plain(name), (1, y), (1.06, height), xycoords=("axes fraction", "data"), textcoords="axes fraction",
            va="center", fontsize=9, color=colour, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6,
                                                               "relpos": (0, 0.5), "shrinkA": 0},
        )  # fmt: skip


def _label_point(axes: Axes, point: tuple[str, float, float, str], taken: Sequence[Bbox]) -> Bbox | None:
    """Write a name at the first free place and return its box; None if there is no free place."""
    name, x, y, colour = point
    for right, up, aligned in PLACES:
        text = axes.annotate(
            plain(name), (x, y), (right, up), textcoords="offset points", ha=aligned, va="center", fontsize=9,
            color=colour,
        )  # fmt: skip
        box = text.get_window_extent()
        if _free(box, taken, axes):
            return box
        text.remove()
    return None


def _markers(axes: Axes, points: Sequence[tuple[str, float, float, str]]) -> list[Bbox]:
    """Boxes of the markers of points."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    half = MARK * figure.dpi / 72
    centres = [axes.transData.transform((x, y)) for _, x, y, _ in points]
    return [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centres]


def _bars(axes: Axes) -> list[Bbox]:
    """Boxes of the error bars."""
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Bbox

    drawn = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    ends = [axes.transData.transform(segment) for lines in drawn for segment in lines.get_segments()]
    return [Bbox([points.min(axis=0) - 1, points.max(axis=0) + 1]) for points in ends]


def _free(box: Bbox, taken: Sequence[Bbox], axes: Axes) -> bool:
    """Whether a box is inside the axes and overlaps nothing."""
    inside = axes.get_window_extent()
    fits = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
    return fits and not any(box.overlaps(other) for other in taken)

"""Names beside points and at the ends of lines, so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

PLACES = ((7, 0, "left"), (-7, 0, "right"), (0, 9, "center"), (0, -9, "center"), (6, 8, "left"), (6, -8, "left"),
          (-6, 8, "right"), (-6, -8, "right"))  # fmt: skip
"""Where a name may stand, in points from its point, and how it is aligned; the first that is free is taken."""
MARK = 4.5
"""Half the size of a marker, in points."""
LINE = 10.5
"""Height of a name, in points."""


def label_points(axes: Axes, points: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each (name, x, y, colour) beside its point; a name that would cover anything drawn is left out."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    centres = [axes.transData.transform((x, y)) for _, x, y, _ in points]
    taken = [Bbox.from_extents(x - MARK * scale, y - MARK * scale, x + MARK * scale, y + MARK * scale)
             for x, y in centres]  # fmt: skip
    taken += _bars(axes)
    taken += [text.get_window_extent() for text in axes.texts]
    for name, x, y, colour in points:
        for right, up, aligned in PLACES:
            text = axes.annotate(
                name, (x, y), (right, up), textcoords="offset points", ha=aligned, va="center", fontsize=9, color=colour
            )
            box = text.get_window_extent()
            if _free(box, taken, axes):
                taken.append(box)
                break
            text.remove()


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write each (name, y, colour) right of the axes, joined to the height y; the layout makes room for the names.

    Names keep the order of their heights. All of them fit where the axes are as high as there are names.
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
            name, (1, y), (1.06, height), xycoords=("axes fraction", "data"), textcoords="axes fraction", va="center",
            fontsize=9, color=colour, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6,
                                                  "relpos": (0, 0.5), "shrinkA": 0},
        )  # fmt: skip


def _bars(axes: Axes) -> list[Bbox]:
    """Where the error bars are."""
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Bbox

    drawn = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    ends = [axes.transData.transform(segment) for lines in drawn for segment in lines.get_segments()]
    return [Bbox([points.min(axis=0) - 1, points.max(axis=0) + 1]) for points in ends]


def _free(box: Bbox, taken: Sequence[Bbox], axes: Axes) -> bool:
    inside = axes.get_window_extent()
    fits = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
    return fits and not any(box.overlaps(other) for other in taken)

"""Progress bars in a notebook: one output of the cell, drawn again as work goes on. No widgets are needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

DRAW_EVERY = 0.2
"""Seconds between two drawings."""


class Bar(NamedTuple):
    """A bar and the text next to it; without a total it moves to and fro."""

    done: int
    total: int | None
    text: str


class NotebookBars:
    """The bars of one cell."""

    def __init__(self) -> None:
        self._output: Any = None  # IPython's handle of the output
        self._drawn = 0.0

    def draw(self, bars: Sequence[Bar], *, at_once: bool = False) -> None:
        """Draw the bars, unless they were drawn a moment ago; an empty list leaves nothing."""
        from IPython.display import HTML, display

        if not at_once and time.monotonic() - self._drawn < DRAW_EVERY:
            return
        self._drawn = time.monotonic()
        content = HTML("".join(map(_html, bars)))
        if self._output is None:
            self._output = display(content, display_id=True)
        else:
            self._output.update(content)


def _html(bar: Bar) -> str:
    position = "" if bar.total is None else f' value="{bar.done}" max="{bar.total}"'
    return f"<div><progress{position}></progress> {escape(bar.text)}</div>"

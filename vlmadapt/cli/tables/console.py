"""The console that all tables are printed on."""

from __future__ import annotations

from rich.console import Console

WIDTH = 160
"""Columns of a table where the output is a file, which has no width of its own."""


def console() -> Console:
    """Standard output, with every text printed as it is: names may contain brackets and colons."""
    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = WIDTH
    return made

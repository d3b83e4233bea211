"""Predictions on the terminal: a table, JSON lines, and the number of images of each class."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.evaluation.prediction_files import record
from vlmadapt.evaluation.predictor import NONE, Prediction

MOST = 100
"""Images in the table: laying out a row takes as long as decoding a photograph, and all of many are for a file."""


@contextmanager
def table() -> Iterator[Callable[[Prediction], None]]:
    """A function that adds the best classes of an image to a table, which is printed at the end."""
    found = Table()
    for name in ("image", "class", "probability"):
        found.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    count = 0

    def add(prediction: Prediction) -> None:
        nonlocal count
        count += 1
        if count > MOST:
            return
        rows = [(name, f"{100 * probability:.1f} %") for name, probability in prediction.best]
        if prediction.rejected:
            rows.insert(0, (NONE, ""))
        for place, row in enumerate(rows):
            found.add_row("" if place else str(prediction.image), *row, end_section=place == len(rows) - 1)

    yield add
    console().print(found)
    if count > MOST:
        console().print(f"and {count - MOST:,} more images; --out FILE writes all")


def json_line(prediction: Prediction) -> None:
    """Print a prediction as one line of JSON."""
    print(json.dumps(record(prediction)))


def summary_table(classes: Counter[str]) -> None:
    """Print the number of images of each class, most first."""
    found = Table()
    found.add_column("class", overflow="fold")
    found.add_column("images", justify="right")
    for name, count in sorted(classes.items(), key=lambda item: (-item[1], item[0])):
        found.add_row(name, f"{count:,}")
    found.add_section()
    found.add_row("all", f"{classes.total():,}")
    console().print(found)

"""Results as tables for people, or JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vlmadapt.core.parameter_counts import Card
from vlmadapt.evaluation.accuracy import Accuracy

TITLES = {
    "base": "base (seen)",
    "novel": "novel (unseen)",
    "harmonic_mean": "harmonic mean",
    "all": "all classes",
    "target_average": "average of targets",
}
MOST_COLUMNS = 4
"""Accuracies that fit beside each other in a terminal; more go below each other."""


def fit_table(numbers: dict[str, Any], folder: Path) -> None:
    """The one table a run ends with."""
    what = (numbers["data"], numbers["protocol"], f"{numbers['shots'] or 'all'} shots", f"seed {numbers['seed']}")
    table = Table(title=f"{numbers['method']} on {', '.join(what)}")
    accuracies = {TITLES.get(name, name): f"{value:.2f} %" for name, value in numbers["accuracy"].items()}
    columns = dict(accuracies) if len(accuracies) <= MOST_COLUMNS else {}
    columns["trainable parameters"] = f"{numbers['trainable_parameters']:,}"
    step = numbers["seconds_per_step"]
    columns["time per step"] = "none" if step is None else f"{1000 * step:.0f} ms"
    columns["peak memory"] = f"{numbers['peak_memory_bytes'] / 2**30:.2f} GiB"
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row(*columns.values())
    out = console()
    out.print(table)
    if len(accuracies) > MOST_COLUMNS:
        out.print(_long_table(accuracies))
    out.print(f"run folder: {folder}", soft_wrap=True)


def accuracy_table(accuracies: Sequence[Accuracy], numbers: dict[str, Any], *, as_json: bool) -> None:
    """Accuracy of each group of classes."""
    if as_json:
        print(json.dumps({"accuracy": numbers, "groups": [vars(a) for a in accuracies]}))
        return
    table = Table()
    for name in ("classes", "told the router", "images", "accuracy"):
        table.add_column(name, justify="left" if name == "classes" else "right")
    for a in accuracies:
        table.add_row(f"{a.name} ({len(a.classes)})", a.role, str(a.total), f"{a.percent:.2f} %")
    for name in ("harmonic_mean", "target_average"):
        if name in numbers:
            table.add_row(TITLES[name], "", "", f"{numbers[name]:.2f} %")
    console().print(table)


def prediction_table(files: Sequence[Path], answers: Iterable[list[tuple[str, float]]], *, as_json: bool) -> None:
    """The best classes of each image."""
    if as_json:
        for file, best in zip(files, answers, strict=True):
            print(json.dumps({"image": str(file), "classes": [{"name": n, "probability": p} for n, p in best]}))
        return
    table = Table()
    for name in ("image", "class", "probability"):
        table.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    for file, best in zip(files, answers, strict=True):
        for place, (name, probability) in enumerate(best):
            table.add_row(
                "" if place else str(file), name, f"{100 * probability:.1f} %", end_section=place == len(best) - 1
            )
    console().print(table)


def methods_table(cards: Sequence[Card], architecture: str, *, as_json: bool) -> None:
    """All methods."""
    if as_json:
        print(json.dumps([asdict(card) for card in cards]))
        return
    table = Table()
    for name in ("method", "trainable on " + architecture, "what it does", "from"):
        table.add_column(name, justify="right" if name.startswith("trainable") else "left")
    for card in cards:
        count = "?" if card.parameters is None else f"{card.parameters:,}"
        table.add_row(card.name, "" if card.broken else count, card.summary, card.distribution)
    console().print(table)


def _long_table(accuracies: dict[str, str]) -> Table:
    table = Table()
    table.add_column("tested on")
    table.add_column("accuracy", justify="right")
    for row in accuracies.items():
        table.add_row(*row)
    return table


def console() -> Console:
    """Tables keep their width where the output is a file."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console

"""Tables of results, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.evaluation.titles import metric_title
from vlmadapt.text import counted

if TYPE_CHECKING:
    from vlmadapt.core.parameter_counts import MethodInfo
    from vlmadapt.evaluation.accuracy import Accuracy

MOST_COLUMNS = 4
"""Accuracies that fit into one row; more get a row each."""


def fit_table(numbers: dict[str, Any], folder: Path) -> None:
    """Print the results of a run."""
    shots = counted(numbers["shots"], "shot") if numbers["shots"] else "all shots"
    what = (numbers["data"], numbers["protocol"], shots, f"seed {numbers['seed']}")
    table = Table(title=f"{numbers['method']} on {', '.join(what)}")
    accuracies = {metric_title(name): f"{value:.2f} %" for name, value in numbers["accuracy"].items()}
    columns = dict(accuracies) if len(accuracies) <= MOST_COLUMNS else {}
    columns["trainable parameters"] = f"{numbers['trainable_parameters']:,}"
    step = numbers["seconds_per_step"]
    columns["time per step"] = "not trained" if step is None else f"{1000 * step:.0f} ms"
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
    """Print the accuracy of each group of classes."""
    if as_json:
        print(json.dumps({"accuracy": numbers, "groups": [vars(a) for a in accuracies]}))
        return
    table = Table()
    for name in ("classes", "role for the router", "images", "accuracy"):
        table.add_column(name, justify="left" if name == "classes" else "right")
    for a in accuracies:
        table.add_row(f"{a.name} ({len(a.classes)})", a.role, str(a.total), f"{a.percent:.2f} %")
    for name in ("harmonic_mean", "target_average"):
        if name in numbers:
            table.add_row(metric_title(name), "", "", f"{numbers[name]:.2f} %")
    console().print(table)


def methods_table(methods: Sequence[MethodInfo], architecture: str, *, as_json: bool) -> None:
    """Print a row for each method."""
    if as_json:
        print(json.dumps([asdict(method) for method in methods]))
        return
    table = Table()
    for name in ("method", "trainable on " + architecture, "what it does", "from"):
        table.add_column(name, justify="right" if name.startswith("trainable") else "left")
    for method in methods:
        count = "?" if method.parameters is None else f"{method.parameters:,}"
        table.add_row(method.name, "" if method.broken else count, method.summary, method.distribution)
    console().print(table)


def _long_table(accuracies: dict[str, str]) -> Table:
    table = Table()
    table.add_column("tested on")
    table.add_column("accuracy", justify="right")
    for row in accuracies.items():
        table.add_row(*row)
    return table

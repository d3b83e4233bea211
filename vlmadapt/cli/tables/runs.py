"""Tables of results, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.evaluation.by_class import ClassScores, class_scores, macro_average
from vlmadapt.evaluation.titles import BASELINES, metric_title
from vlmadapt.registry.tracks import ordered, track_title
from vlmadapt.text import counted

if TYPE_CHECKING:
    from vlmadapt.core.parameter_counts import MethodInfo
    from vlmadapt.evaluation.accuracy import Accuracy

EXTREMES = 3
"""Number of best and of worst classes that are named after training."""


def fit_table(numbers: dict[str, Any], folder: Path) -> None:
    """Print the results of a run: what it gained over chance and zero-shot, its best and worst classes, its costs."""
    shots = counted(numbers["shots"], "shot") if numbers["shots"] else "all shots"
    what = (numbers["data"], numbers["protocol"], shots, f"seed {numbers['seed']}")
    out = console()
    if numbers["accuracy"]:  # train-only tests nothing
        out.print(_accuracies(f"{numbers['method']} on {', '.join(what)}", numbers))
    for group in numbers["groups"]:
        for line in _extremes(group, named=len(numbers["groups"]) > 1):
            out.print(line, soft_wrap=True)
    out.print(", ".join(_costs(numbers)), soft_wrap=True)
    out.print(f"run folder: {folder}", soft_wrap=True)


def _accuracies(title: str, numbers: dict[str, Any]) -> Table:
    """A row for each accuracy, with chance and zero-shot next to it where they are known."""
    groups = {group["name"]: group for group in numbers["groups"]}
    others = [name for name in ("chance", "zero_shot") if name in numbers]
    table = Table(title=title)
    table.add_column("tested on")
    headings = ("classes", "images", *(BASELINES[name] for name in others), numbers["method"])
    for heading in (*headings, *(["gain"] if "zero_shot" in numbers else [])):
        table.add_column(heading, justify="right")
    for name, percent in numbers["accuracy"].items():
        sizes = (len(groups[name]["classes"]), groups[name]["total"]) if name in groups else ("", "")
        cells = [f"{size:,}" if size else "" for size in sizes]
        cells += [f"{numbers[other][name]:.2f} %" for other in others]
        gain = [f"{percent - numbers['zero_shot'][name]:+.2f}"] if "zero_shot" in numbers else []
        table.add_row(metric_title(name), *cells, f"{percent:.2f} %", *gain)
    return table


def _extremes(group: dict[str, Any], *, named: bool) -> Iterator[str]:
    """The best and the worst classes of a group with their accuracy; the worst with what they are taken for."""
    tested = {name: share for name, share in group["classes"].items() if share is not None}
    ranked = sorted(tested, key=lambda name: tested[name])
    where = f" of {group['name']}" if named else ""
    if len(ranked) > 2 * EXTREMES:
        best = [f"{name} {100 * tested[name]:.0f} %" for name in ranked[::-1][:EXTREMES]]
        yield f"best classes{where}: {', '.join(best)}"
        worst = [f"{name} {100 * tested[name]:.0f} %{_taken_for(group, name)}" for name in ranked[:EXTREMES]]
        yield f"worst classes{where}: {', '.join(worst)}"


def _taken_for(group: dict[str, Any], name: str) -> str:
    """The other class that most images of a class are predicted as."""
    wrong = {other: count for other, count in group["confusion"][name].items() if other != name}
    if not wrong:
        return ""
    other = max(wrong, key=lambda found: wrong[found])
    return f" ({wrong[other]} of {sum(group['confusion'][name].values())} taken for {other})"


def _costs(numbers: dict[str, Any]) -> Iterator[str]:
    if "selected_epoch" in numbers:
        yield f"epoch {numbers['selected_epoch']} selected on the validation images"
    yield counted(numbers["trainable_parameters"], "trainable parameter")
    if numbers["seconds_per_step"] is not None:
        yield f"{1000 * numbers['seconds_per_step']:.0f} ms per step"
    yield f"peak memory {numbers['peak_memory_bytes'] / 2**30:.2f} GiB"


def accuracy_table(
    accuracies: Sequence[Accuracy], numbers: dict[str, Any], *, as_json: bool, by_class: bool = False
) -> None:
    """Print the accuracy of each group of classes, and of each class if asked for."""
    if as_json:
        print(json.dumps({"accuracy": numbers, "groups": [a.to_json() for a in accuracies]}))
        return
    out = console()
    table = Table()
    for name in ("classes", "role", "images", "chance", "accuracy"):
        table.add_column(name, justify="left" if name == "classes" else "right")
    for a in accuracies:
        table.add_row(f"{a.name} ({len(a.classes)})", a.role, f"{a.total:,}", f"{a.chance:.2f} %", f"{a.percent:.2f} %")
    for name in ("harmonic_mean", "target_average"):
        if name in numbers:
            table.add_row(metric_title(name), "", "", "", f"{numbers[name]:.2f} %")
    out.print(table)
    for a in accuracies if by_class else ():
        out.print(_class_table(a))


def _class_table(accuracy: Accuracy) -> Table:
    """A row for each class, worst recall first, and the mean over classes."""
    table = Table(title=accuracy.name, title_justify="left")
    for name in ("class", "images", "recall (accuracy)", "precision", "F1", "most often taken for"):
        table.add_column(name, justify="left" if name in ("class", "most often taken for") else "right")
    scores = class_scores(accuracy.confusion)
    group = accuracy.to_json()
    for name, found in sorted(scores.items(), key=lambda item: (item[1].recall is None, item[1].recall or 0)):
        table.add_row(name, *_score_cells(found), _taken_for(group, name).strip(" ()"))
    table.add_section()
    table.add_row("mean over classes", *_score_cells(macro_average(scores.values())), "")
    return table


def _score_cells(scores: ClassScores) -> Iterator[str]:
    yield f"{scores.images:,}"
    for value in (scores.recall, scores.precision, scores.f1):
        yield "" if value is None else f"{100 * value:.1f} %"


def methods_table(methods: Sequence[MethodInfo], architecture: str, *, as_json: bool) -> None:
    """Print a row for each method, a table for each track."""
    if as_json:
        print(json.dumps([asdict(method) for method in methods]))
        return
    for track in ordered(method.track for method in methods):
        table = Table(title=track_title(track), title_justify="left")
        for name in ("method", "trainable on " + architecture, "what it does", "from"):
            table.add_column(name, justify="right" if name.startswith("trainable") else "left")
        for method in (method for method in methods if method.track == track):
            count = "?" if method.parameters is None else f"{method.parameters:,}"
            table.add_row(method.name, "" if method.broken else count, method.summary, method.distribution)
        console().print(table)

"""What every table says of itself: recipe, data, versions, and what is to be known of its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlmadapt.compare.aggregate import HARMONIC, Row
from vlmadapt.compare.index import weights_of
from vlmadapt.compare.published import broken_plugins, match
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.settings import data_name, shots_text
from vlmadapt.compare.table import FLAW
from vlmadapt.evaluation.titles import short_title
from vlmadapt.runs.run import ENVIRONMENT, Run

NAMED = ("vlmadapt", "torch", "open_clip_torch")


def make_notes(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    """One line each."""
    return [
        *_recipe(comparison),
        *_splits(comparison),
        *_data(comparison),
        *_weights(comparison),
        *_versions(comparison),
        *_numbers(comparison, rows),
        *_published(comparison, rows),
        *(f"Failed: {row.method} on {data_name(row.data[0])}, {error}" for row in rows for error in row.errors),
    ]


def _recipe(comparison: Comparison) -> Iterator[str]:
    changes = comparison.settings.get("train") or {}
    changed = f", with {', '.join(f'{k} {v}' for k, v in changes.items())} for all methods" if changes else ""
    yield f"Recipe: {comparison.recipe}{changed}."
    by_default = [m for m in comparison.methods if any(e.method == m and not e.recipe for e in comparison.entries)]
    if by_default and comparison.settings:
        yield f"Own defaults, for there is no {comparison.recipe} recipe: {', '.join(by_default)}."
    for note in dict.fromkeys(f"{e.method}: recipe {e.note}" for e in comparison.entries if e.note):
        yield f"{note}."


def _splits(comparison: Comparison) -> Iterator[str]:
    for data in comparison.data:
        hashes = {}
        for entry in comparison.entries:
            result = entry.result() if entry.data == data else None
            if result:
                hashes[f"{shots_text(entry.shots)} seed {entry.seed}"] = result["data_sha256"][:12]
        if hashes:
            said = ", ".join(f"{what} {mark}" for what, mark in hashes.items())
            yield f"Split of {data_name(data)}: {said} (SHA-256)."


def _data(comparison: Comparison) -> Iterator[str]:
    results = [result for entry in comparison.entries if (result := entry.result())]
    yield from dict.fromkeys(note for result in results for note in result.get("data_notes", ()))


def _weights(comparison: Comparison) -> Iterator[str]:
    found = dict.fromkeys(weights_of(entry.folder) for entry in comparison.entries if entry.result())
    known = [weights[:12] for weights in found if weights]
    if known:
        yield f"Backbone: {comparison.backbone}, weights {', '.join(known)} (SHA-256)."
    if len(known) > 1:
        yield "These runs were made on different weights; their accuracies cannot be compared."


def _versions(comparison: Comparison) -> Iterator[str]:
    found = [_environment(entry.folder) for entry in comparison.entries if entry.result()]
    kinds = dict.fromkeys(
        ", ".join([
            *(f"{name} {e['libraries'][name]}" for name in NAMED),
            f"Python {e['python']}",
            e["gpu"] or f"CPU, {e['threads']} thread{'s' * (e['threads'] > 1)}",
        ])
        for e in found
    )  # fmt: skip
    yield from (f"Versions: {kind}." for kind in kinds)
    if len(kinds) > 1:
        yield "These runs were made with different versions or machines; times cannot be compared."


def _environment(folder: Path) -> dict[str, Any]:
    return json.loads((Run(folder).folder / ENVIRONMENT).read_text(encoding="utf-8"))


def _numbers(comparison: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    jobs = comparison.settings.get("jobs", 1)
    spread = "mean ± sample standard deviation over seeds" if any(len(row.seeds) > 1 for row in rows) else "one seed"
    harmonic = "; HM is the harmonic mean of the two means" if any(HARMONIC in row.accuracy for row in rows) else ""
    yield f"Accuracy in percent, {spread}{harmonic}. Peak memory is that of the whole process or of the GPU."
    if jobs > 1:
        yield f"{jobs} runs at the same time; times are those of a shared machine."


def _published(comparison: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    found = [(row, numbers) for row in rows if (numbers := match(row, comparison))]
    yield from broken_plugins()
    yield from dict.fromkeys(f"Published: {numbers.source}." for _, numbers in found)
    for row, numbers in found:
        for name, expected in numbers.flaws.items():
            yield (
                f"{FLAW} {row.method}: {short_title(name)} {numbers.values[name]:.2f} is as published, though it "
                f"follows to be {expected:.2f} from the numbers published with it."
            )

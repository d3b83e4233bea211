"""Notes below every table: recipe, splits, weights, versions, flaws of published numbers, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmadapt.compare.aggregate import HARMONIC, ResultRow
from vlmadapt.compare.index import weights_of
from vlmadapt.compare.leaks import leak_notes
from vlmadapt.compare.published import broken_plugins, match, reruns
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.settings import data_name, shots_text
from vlmadapt.compare.tables import FLAW
from vlmadapt.evaluation.titles import short_title
from vlmadapt.runs.run import Run
from vlmadapt.text import first_few

NAMED = ("vlmadapt", "torch", "open_clip_torch")


def make_notes(comparison: Comparison, rows: Sequence[ResultRow]) -> list[str]:
    """All notes, one line each."""
    return [
        *_recipe(comparison),
        *_splits(comparison),
        *_tests(comparison),
        *_data(comparison),
        *_weights(comparison),
        *_versions(comparison),
        *_method_versions(comparison),
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
        yield f"No {comparison.recipe} recipe, so the method's defaults: {', '.join(by_default)}."
    for note in dict.fromkeys(f"{e.method}: {e.note}" for e in comparison.entries if e.note):
        yield f"{note}."


def _splits(comparison: Comparison) -> Iterator[str]:
    for data in comparison.data:
        hashes: dict[str, dict[str, None]] = {}  # several where some methods train without labels
        for entry in comparison.entries:
            result = entry.result() if entry.data == data else None
            drawn = {"seed": entry.seed, "shots": entry.shots}  # others where one run stands for all
            if result and all(result.get(name, value) == value for name, value in drawn.items()):
                what = f"{shots_text(entry.shots)} seed {entry.seed}"
                hashes.setdefault(what, {})[result["data_sha256"][:12]] = None
        if hashes:
            said = ", ".join(f"{what} {' and '.join(marks)}" for what, marks in hashes.items())
            yield f"Split of {data_name(data)}: {said} (SHA-256)."


def _tests(comparison: Comparison) -> Iterator[str]:
    """A warning if runs on the same data tested other images, classes or roles."""
    for data in comparison.data:
        results = [result for entry in comparison.entries if entry.data == data and (result := entry.result())]
        hashes: dict[str, set[str]] = {}
        for group in (group for result in results for group in result.get("groups", ())):
            if "data_sha256" in group:
                hashes.setdefault(group["name"], set()).add(group["data_sha256"])
        others = [short_title(name) for name, found in hashes.items() if len(found) > 1]
        if others:
            yield (
                f"These runs tested other images or classes of {data_name(data)} ({first_few(others)}); their "
                "accuracies cannot be compared."
            )


def _data(comparison: Comparison) -> Iterator[str]:
    results = [result for entry in comparison.entries if (result := entry.result())]
    yield from dict.fromkeys(note for result in results for note in result.get("data_notes", ()))


def _weights(comparison: Comparison) -> Iterator[str]:
    found = dict.fromkeys(weights_of(entry.folder) for entry in comparison.entries if entry.result())
    known = [weights[:12] for weights in found if weights]
    if known:
        yield f"Backbone: {comparison.backbone}, weights {', '.join(known)} (SHA-256)."
    if len(known) > 1:
        yield "These runs used different weights; their accuracies cannot be compared."


def _versions(comparison: Comparison) -> Iterator[str]:
    found = [(Run(entry.folder).environment(), entry.device()) for entry in comparison.entries if entry.result()]
    kinds = dict.fromkeys(
        ", ".join([
            *(f"{name} {e['libraries'].get(name, 'unknown')}" for name in NAMED),
            f"Python {e['python']}",
            device,
        ])
        for e, device in found
    )  # fmt: skip
    yield from (f"Versions: {kind}." for kind in kinds)
    if len(kinds) > 1:
        yield "These runs used different versions or machines; times cannot be compared."


def _method_versions(comparison: Comparison) -> Iterator[str]:
    """A warning for each method whose runs were made by several versions of it."""
    for method in comparison.methods:
        folders = [entry.folder for entry in comparison.entries if entry.method == method and entry.result()]
        made_by = (Run(folder).environment().get("method") for folder in folders)
        found = sorted({f"{made['distribution']} {made['version']}" for made in made_by if made})
        if len(found) > 1:
            yield f"Runs of {method} were made by several versions of it ({', '.join(found)}); they may not be repeats."


def _numbers(comparison: Comparison, rows: Sequence[ResultRow]) -> Iterator[str]:
    jobs = comparison.settings.get("jobs", 1)
    spread = "mean ± sample standard deviation over seeds" if any(len(row.seeds) > 1 for row in rows) else "one seed"
    harmonic = "; HM is the harmonic mean of the two means" if any(HARMONIC in row.accuracy for row in rows) else ""
    yield f"Accuracy in percent, {spread}{harmonic}. Peak memory is that of the GPU, without one that of the process."
    if shared := comparison.settings.get("shared_process"):
        yield f"Runs on the same data share a process; peak memory includes what they share: {', '.join(shared)}."
    if jobs > 1:
        yield f"{jobs} runs at the same time; times are those of a shared machine."


def _published(comparison: Comparison, rows: Sequence[ResultRow]) -> Iterator[str]:
    found = [(row, numbers) for row in rows if (numbers := match(row, comparison))]
    yield from broken_plugins()
    yield from dict.fromkeys(f"Published: {numbers.source}." for _, numbers in found)
    again = [rerun for row in rows for rerun in reruns(row, comparison)]
    yield from dict.fromkeys(f"Rerun by {rerun.rerun_by}: {rerun.source}." for rerun in again)
    yield from leak_notes(comparison)
    for row, numbers in found:
        for name, expected in numbers.flaws.items():
            yield (
                f"{FLAW} {row.method}: {short_title(name)} {numbers.values[name]:.2f} is as published, "
                f"but the numbers published with it give {expected:.2f}."
            )

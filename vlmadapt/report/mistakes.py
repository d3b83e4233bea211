"""Confused classes, and the test images that are misclassified with most confidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from vlmadapt.compare.predictions import read_predictions
from vlmadapt.compare.record import Entry
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.recorded import recorded_groups
from vlmadapt.runs.run import Run


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image.

    Attributes:
        group: name of the group of classes it was tested in.
        name: file, relative to the folder of the data.
        image: path, None if the data is missing.
        actual: correct class.
        predicted: predicted class.
        confidence: probability of the prediction, averaged over the seeds.
        seeds: number of runs with this prediction.
    """

    group: str
    name: str
    image: Path | None
    actual: str
    predicted: str
    confidence: float
    seeds: int


@dataclass(frozen=True)
class Confusion:
    """A class that is confused with another.

    Attributes:
        actual: correct class.
        predicted: predicted class.
        rate: fraction of the correct class's test images, over all runs.
        examples: some of the images, worst first.
    """

    actual: str
    predicted: str
    rate: float
    examples: tuple[Mistake, ...]


@dataclass(frozen=True)
class Mistakes:
    """Mistakes of one method on one data set.

    Attributes:
        runs: number of runs that saved their predictions.
        worst: images misclassified in most runs, then with most confidence.
        confusions: confused classes, most frequent first.
    """

    runs: int
    worst: tuple[Mistake, ...]
    confusions: tuple[Confusion, ...]


def find_mistakes(entries: Sequence[Entry], worst: int = 12, pairs: int = 8, examples: int = 4) -> Mistakes | None:
    """Mistakes of runs that differ only in their seed; None if none of them saved its predictions."""
    folders = dict.fromkeys(entry.folder for entry in entries if entry.result())
    runs = [run for folder in folders if (run := Run(folder)).answers() is not None]
    if not runs:
        return None
    totals: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, str, str, Path | None], list[float]] = defaultdict(list)
    for run in runs:
        for group, name, path, actual, predicted, confidence in _predictions(run):
            totals[group, actual] += 1
            if predicted != actual:
                found[group, actual, predicted, name, path].append(confidence)
    mistakes = [
        Mistake(group, name, path, actual, predicted, mean(values), len(values))
        for (group, actual, predicted, name, path), values in found.items()
    ]
    mistakes.sort(key=lambda m: (-m.seeds, -m.confidence, m.name))
    return Mistakes(len(runs), tuple(mistakes[:worst]), tuple(_confusions(mistakes, totals, examples)[:pairs]))


def _confusions(mistakes: Sequence[Mistake], totals: Counter[tuple[str, str]], examples: int) -> list[Confusion]:
    by_pair: dict[tuple[str, str, str], list[Mistake]] = defaultdict(list)
    for mistake in mistakes:
        by_pair[mistake.group, mistake.actual, mistake.predicted].append(mistake)
    found = [
        Confusion(actual, predicted, sum(m.seeds for m in same) / totals[group, actual], tuple(same[:examples]))
        for (group, actual, predicted), same in by_pair.items()
    ]
    return sorted(found, key=lambda c: (-c.rate, c.actual, c.predicted))


def _predictions(run: Run) -> Iterator[tuple[str, str, Path | None, str, str, float]]:
    """Group, file, path, class, prediction and confidence of every test image."""
    paths = _paths(run)
    for group in read_predictions(run):
        rows = zip(group.images, group.labels, group.predicted, group.confidence, strict=True)
        for name, label, predicted, confidence in rows:
            path = paths.get((group.name, name))
            yield group.name, name, path, group.classes[label], group.classes[predicted], confidence


def _paths(run: Run) -> dict[tuple[str, str], Path]:
    """Paths of the run's test images by group and file; empty if its data is missing."""
    manifest = run.manifest()
    try:
        groups = recorded_groups(manifest, Inputs.read(run.settings())).groups
    except VlmadaptError:
        return {}
    found = [example.path for group in groups for example in group.examples]
    listed = [(group["name"], name) for group in manifest["test"] for name, _ in group["examples"]]
    return dict(zip(listed, found, strict=True))

"""Which classes are taken for which, and the images that are answered wrongly with most confidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from vlmadapt.compare.record import Entry
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.recorded import recorded_groups
from vlmadapt.runs.run import Run


@dataclass(frozen=True)
class Mistake:
    """A test image that was answered wrongly.

    Attributes:
        group: of classes it was tested among.
        name: its file, relative to the data's folder.
        image: where it lies, None where the data are not at hand.
        actual: its class.
        chosen: what it was taken for.
        confidence: probability of the answer, averaged over these seeds.
        seeds: number of runs that answered so.
    """

    group: str
    name: str
    image: Path | None
    actual: str
    chosen: str
    confidence: float
    seeds: int


@dataclass(frozen=True)
class Confusion:
    """A class that is taken for another.

    Attributes:
        actual: the class.
        chosen: the other.
        rate: part of the class's test images, over all runs.
        examples: some of them, worst first.
    """

    actual: str
    chosen: str
    rate: float
    examples: tuple[Mistake, ...]


@dataclass(frozen=True)
class Mistakes:
    """Of one method on one data set.

    Attributes:
        runs: that kept their answers.
        worst: wrong in most runs, then with most confidence.
        confusions: most frequent first.
    """

    runs: int
    worst: tuple[Mistake, ...]
    confusions: tuple[Confusion, ...]


def find_mistakes(entries: Sequence[Entry], worst: int = 12, pairs: int = 8, examples: int = 4) -> Mistakes | None:
    """Mistakes of runs that differ by their seed; None where none of them kept its answers."""
    runs = [Run(entry.folder) for entry in entries if entry.result() and Run(entry.folder).answers() is not None]
    if not runs:
        return None
    totals: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, str, str, Path | None], list[float]] = defaultdict(list)
    for run in runs:
        for group, name, path, actual, chosen, confidence in _answers(run):
            totals[group, actual] += 1
            if chosen != actual:
                found[group, actual, chosen, name, path].append(confidence)
    mistakes = [
        Mistake(group, name, path, actual, chosen, mean(values), len(values))
        for (group, actual, chosen, name, path), values in found.items()
    ]
    mistakes.sort(key=lambda m: (-m.seeds, -m.confidence, m.name))
    return Mistakes(len(runs), tuple(mistakes[:worst]), tuple(_confusions(mistakes, totals, examples)[:pairs]))


def _confusions(mistakes: Sequence[Mistake], totals: Counter[tuple[str, str]], examples: int) -> list[Confusion]:
    by_pair: dict[tuple[str, str, str], list[Mistake]] = defaultdict(list)
    for mistake in mistakes:
        by_pair[mistake.group, mistake.actual, mistake.chosen].append(mistake)
    found = [
        Confusion(actual, chosen, sum(m.seeds for m in same) / totals[group, actual], tuple(same[:examples]))
        for (group, actual, chosen), same in by_pair.items()
    ]
    return sorted(found, key=lambda c: (-c.rate, c.actual, c.chosen))


def _answers(run: Run) -> Iterator[tuple[str, str, Path | None, str, str, float]]:
    """Group, file, place, class, answer and confidence of every test image."""
    tested = {group["name"]: group for group in run.manifest()["test"]}
    places = _places(run)
    for answered in run.answers() or ():
        group = tested[answered["name"]]
        rows = zip(group["examples"], answered["chosen"], answered["confidence"], strict=True)
        for (name, label), chosen, confidence in rows:
            classes = group["classes"]
            yield group["name"], name, places.get((group["name"], name)), classes[label], classes[chosen], confidence


def _places(run: Run) -> dict[tuple[str, str], Path]:
    """Paths of the run's test images by group and file; none where its data are gone."""
    manifest = run.manifest()
    try:
        groups = recorded_groups(manifest, Inputs.read(run.settings())).groups
    except VlmadaptError:
        return {}
    paths = [example.path for group in groups for example in group.examples]
    names = [(group["name"], name) for group in manifest["test"] for name, _ in group["examples"]]
    return dict(zip(names, paths, strict=True))

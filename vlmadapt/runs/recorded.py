"""Test images of a finished run: those listed in its `data.json`, looked up in the present data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.duplicates import duplicates
from vlmadapt.data.load import is_registered
from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.roles import Role
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import counted, first_few


@dataclass(frozen=True)
class Recorded:
    """Test groups of a run.

    Attributes:
        groups: images and labels of `data.json`, with their present paths.
        notes: changes of the data since the run.
    """

    groups: tuple[ClassGroup, ...]
    notes: tuple[str, ...]


def recorded_groups(manifest: Mapping[str, Any], inputs: Inputs, *, rename: bool = False) -> Recorded:
    """The test groups that a run recorded; images added since then are not tested.

    Args:
        manifest: content of the run's `data.json`.
        inputs: the run's data as they are now.
        rename: take class names from `inputs` instead of `data.json`.

    Raises:
        DataError: a recorded test image is missing.
    """
    own = [group for group in manifest["test"] if "templates" not in group]
    others = [[group] for group in manifest["test"] if "templates" in group]
    if len(others) != len(inputs.targets):
        raise DataError(f"the run tested {len(others)} targets, but its settings name {len(inputs.targets)}.")
    groups: list[ClassGroup] = []
    notes: list[str] = []
    for data, recorded in zip((inputs.data, *inputs.targets), (own, *others), strict=True):
        now = _Now(data, [name for group in recorded for name, _ in group["examples"]])
        groups += (now.group(group, rename) for group in recorded)
        notes += now.changes(recorded, only_listed=inputs.settings.protocol == "custom")
    return Recorded(tuple(groups), tuple(notes))


@dataclass(frozen=True)
class Used:
    """Images of a data set that a run used in training or validation.

    Attributes:
        paths: the images.
        note: that some cannot be recognised, and why; empty if all can.
    """

    paths: frozenset[Path]
    note: str = ""


def trained_on(run: Run, data: Dataset) -> Used:
    """Images of a data set that a run used in training or validation.

    They are recognised by content. Where the run's data have moved, they are looked for by their names below a common
    folder of `data`, if most of them are there. Registered data sets have fixed parts, so they are not searched.
    """
    settings, manifest = run.settings(), run.manifest()
    if is_registered(settings.data):
        return Used(frozenset())
    used = [name for name, _ in (*manifest["train"], *manifest["val"])]
    tested = [name for group in manifest["test"] if "templates" not in group for name, _ in group["examples"]]
    own = _read(settings)
    places = {example.path for example in (own or data).examples}
    root = _root_of([*used, *tested], places)
    if own is None and 2 * len(places.intersection(root / name for name in (*used, *tested))) < len(used + tested):
        places = set()  # other data, of which a few images may be called alike
    seen = places.intersection(root / name for name in used)
    copies = duplicates([*seen, *(example.path for example in data.examples)])
    copied = {path for group in copies if not seen.isdisjoint(group) for path in group}
    found = frozenset((seen | copied) & {example.path for example in data.examples})
    return Used(found, _lost(settings.data, len(used) - len(seen), len(used)))


def _lost(data: str, lost: int, used: int) -> str:
    if not lost:
        return ""
    return (
        f"{lost:,} of the {counted(used, 'image')} that the run was trained on are no longer in '{data}'; copies of "
        "them would be tested."
    )


def _read(settings: FitSettings) -> Dataset | None:
    """The run's own data; None if they cannot be read at their old path."""
    try:
        return Inputs.read(replace(settings, targets=None)).data
    except VlmadaptError:
        return None


class _Now:
    """A data set in its present state, and the names of the test images that a run recorded."""

    def __init__(self, data: Dataset, names: Sequence[str]) -> None:
        self.data = data
        self.labels = {example.path: example.label for example in data.examples}
        root = _root_of(names, self.labels)
        self.paths = {name: root / name for name in names}
        missing = [name for name, path in self.paths.items() if path not in self.labels]
        if missing:
            raise DataError(
                f"{len(missing):,} of the {len(names):,} images that the run tested are no longer in '{data.name}': "
                f"{first_few(missing)}; restore them, or test the data as they are now with --data."
            )

    def group(self, recorded: Mapping[str, Any], rename: bool) -> ClassGroup:
        examples = tuple(Example(self.paths[name], label) for name, label in recorded["examples"])
        names = self._names_now(recorded) if rename else recorded["classes"]
        templates = recorded.get("templates")
        own_templates = None if templates is None else tuple(templates)
        # A router may compare roles by identity, which a plain string does not stand.
        return ClassGroup(recorded["name"], Role(recorded["role"]), tuple(names), examples, own_templates)

    def changes(self, groups: Sequence[Mapping[str, Any]], only_listed: bool) -> Iterator[str]:
        """Notes on new images and classes, and on images whose class has changed."""
        used: set[int] = set()
        moved = 0
        for group in groups:
            usual = self._labels_now(group)
            used |= set(usual.values())
            moved += sum(self.labels[self.paths[name]] != usual[label] for name, label in group["examples"])
        known = set(self.paths.values())
        new = sum(e.path not in known and e.label in used for e in self.data.test)
        if new:
            yield f"new since the run and not tested: {counted(new, 'test image')} of '{self.data.name}'."
        if moved:
            images = counted(moved, "test image")
            yield f"of another class now and tested as recorded by the run: {images} of '{self.data.name}'."
        listed = {name for group in groups for name in group["classes"]}
        classes = [name for i, name in enumerate(self.data.classes) if i not in used and name not in listed]
        if classes and not only_listed:
            yield f"new since the run and not tested: {_quoted(classes)} of '{self.data.name}'."

    def _labels_now(self, recorded: Mapping[str, Any]) -> dict[int, int]:
        """The present label of each recorded label: that of most of its images."""
        votes: dict[int, Counter[int]] = {}
        for name, label in recorded["examples"]:
            votes.setdefault(label, Counter())[self.labels[self.paths[name]]] += 1
        return {label: count.most_common(1)[0][0] for label, count in votes.items()}

    def _names_now(self, recorded: Mapping[str, Any]) -> list[str]:
        by_folder = dict(zip(self.data.folders, self.data.classes, strict=False))
        labels = self._labels_now(recorded)
        return [
            self.data.classes[labels[label]] if label in labels else by_folder.get(name, name)
            for label, name in enumerate(recorded["classes"])
        ]


def _quoted(classes: Sequence[str]) -> str:
    names = first_few([f"'{name}'" for name in classes])
    return f"the class {names}" if len(classes) == 1 else f"the classes {names}"


def _root_of(names: Iterable[str], files: Collection[Path]) -> Path:
    """The folder that recorded names are relative to: the one below which most of them exist."""
    wanted = set(names)
    depths = {len(PurePosixPath(name).parts) for name in wanted}
    votes: Counter[Path] = Counter()
    for file in files:
        for depth in depths:
            if len(file.parts) > depth and "/".join(file.parts[-depth:]) in wanted:
                votes[file.parents[depth - 1]] += 1
    return max(votes, key=lambda root: (votes[root], -len(root.parts)), default=Path())

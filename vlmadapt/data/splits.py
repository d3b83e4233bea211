"""Which classes are trained on and which are tested, for each protocol."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.fewshot import sample_shots
from vlmadapt.errors import DataError, unknown

Protocol = Literal["base-to-novel", "few-shot", "all-classes"]
Role = Literal["seen", "unseen", "unknown"]


@dataclass(frozen=True)
class ClassGroup:
    """Classes that are told apart from each other in a test.

    Attributes:
        name: 'base', 'novel' or 'all'.
        role: what a method is told of them: 'seen' in training, 'unseen', or 'unknown' where they are mixed.
        classes: their names in label order.
        examples: test images; labels index `classes`.
    """

    name: str
    role: Role
    classes: tuple[str, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Splits:
    """What a run trains on and what it is tested on.

    Attributes:
        classes: names of the classes trained on, in label order.
        train: training images, already reduced to the shots.
        val: all validation images of `classes`; may be empty.
        groups: what to test on.
        short: classes with fewer training images than shots, and how many they have.
    """

    classes: tuple[str, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    groups: tuple[ClassGroup, ...]
    short: dict[str, int]


def make_splits(dataset: Dataset, protocol: Protocol, shots: int | None, seed: int) -> Splits:
    """Cut a data set as a protocol says.

    'base-to-novel' trains on the base classes and tests base (seen) and novel (unseen) apart; 'few-shot' trains and
    tests on all classes (seen); 'all-classes' trains on the base classes and tests on all of them together (unknown),
    which is how a deployed model is used.

    Args:
        dataset: the data.
        protocol: one of the above.
        shots: training images per class; None or 0 for all.
        seed: of the draw.

    Raises:
        DataError: the protocol is unknown, the classes are too few for it, or there is nothing to test on.
    """
    everything = tuple(range(len(dataset.classes)))
    groups: tuple[ClassGroup, ...]
    match protocol:
        case "few-shot":
            trained = everything
            groups = (_group(dataset, "all", "seen", everything),)
        case "base-to-novel":
            trained, novel = base_and_novel(dataset)
            groups = (_group(dataset, "base", "seen", trained), _group(dataset, "novel", "unseen", novel))
        case "all-classes":
            trained, _ = base_and_novel(dataset)
            groups = (_group(dataset, "all", "unknown", everything),)
        case _:
            raise DataError(unknown("protocol", protocol, get_args(Protocol)))
    # Shots are drawn for all classes, and the base classes are picked from them afterwards, as CoOp does: the other way
    # round the generator would draw other images.
    drawn, short = sample_shots(dataset.train, shots, seed)
    return Splits(
        classes=_names(dataset, trained),
        train=subset(drawn, trained),
        val=subset(dataset.val, trained),
        groups=groups,
        short={dataset.classes[label]: count for label, count in short.items() if label in trained},
    )


def base_and_novel(dataset: Dataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Labels of the first half of the classes (rounded up) and of the rest.

    Raises:
        DataError: a half would have a single class, which no method can get wrong.
    """
    n = len(dataset.classes)
    if n < 4:
        raise DataError(
            f"data set '{dataset.name}' has {n} classes, too few to be halved into base and novel classes (4 or more); "
            "use --protocol few-shot."
        )
    half = (n + 1) // 2
    return tuple(range(half)), tuple(range(half, n))


def subset(examples: Sequence[Example], labels: Sequence[int]) -> tuple[Example, ...]:
    """The examples of these labels, relabelled by the place of their label in `labels`."""
    place = {label: i for i, label in enumerate(labels)}
    return tuple(Example(e.path, place[e.label]) for e in examples if e.label in place)


def manifest(splits: Splits) -> dict[str, Any]:
    """The splits as something to write to JSON and read: for every image its file and label, and one hash over all.

    File names are relative to the folder that all images share, so that the hash is the same wherever the data lie.
    Contents of images are not part of it; their order is, for training depends on it.
    """
    every = [*splits.train, *splits.val, *(e for group in splits.groups for e in group.examples)]
    root = Path(os.path.commonpath([example.path.parent for example in every]))

    def listed(examples: Sequence[Example]) -> list[list[str | int]]:
        return [[example.path.relative_to(root).as_posix(), example.label] for example in examples]

    content: dict[str, Any] = {
        "classes": list(splits.classes),
        "train": listed(splits.train),
        "val": listed(splits.val),
        "test": [
            {"name": g.name, "role": g.role, "classes": list(g.classes), "examples": listed(g.examples)}
            for g in splits.groups
        ],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return {"sha256": hashlib.sha256(canonical.encode()).hexdigest(), **content}


def _group(dataset: Dataset, name: str, role: Role, labels: tuple[int, ...]) -> ClassGroup:
    examples = subset(dataset.test, labels)
    if not examples:
        raise DataError(f"data set '{dataset.name}' has no test images of the {name} classes; add some.")
    return ClassGroup(name, role, _names(dataset, labels), examples)


def _names(dataset: Dataset, labels: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(dataset.classes[label] for label in labels)

"""Protocols: the classes to train on and the groups of classes to test."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vlmadapt.data.class_split import ClassSplit
from vlmadapt.data.dataset import UNLABELLED, Dataset, Example
from vlmadapt.data.fewshot import sample_shots
from vlmadapt.errors import DataError, unknown
from vlmadapt.files import content_sha256
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN, Role
from vlmadapt.text import first_few

Protocol = Literal[
    "base-to-novel", "few-shot", "all-classes", "cross-dataset", "domain-generalization", "custom", "train-only"
]
TRANSFER = ("cross-dataset", "domain-generalization")
"""Protocols that test on other data sets as well."""


@dataclass(frozen=True)
class ClassGroup:
    """Classes that one test chooses from, and its images.

    Attributes:
        name: 'base', 'novel', 'all', or the data set's name where several are tested.
        role: role of the classes, given to the inference router: seen in training, unseen, or unknown for a mixture.
        classes: class names in label order.
        examples: test images; labels index `classes`.
        templates: prompt templates of these classes; None for those of the training data.
    """

    name: str
    role: Role
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    templates: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images of a run.

    Attributes:
        classes: names of the classes trained on, in label order.
        train: training images, already reduced to the shots; without labels, each has `UNLABELLED`.
        val: validation images of `classes`; may be empty.
        groups: groups of classes to test.
        underfull: number of training images by class, for classes with fewer than the shots.
        descriptions: sentences that describe a class, by class name, for methods that read them.
    """

    classes: tuple[str, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    groups: tuple[ClassGroup, ...]
    underfull: dict[str, int]
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def examples(self) -> tuple[Example, ...]:
        """Every image that is trained on, validated on or tested, once."""
        used = (*self.train, *self.val, *(e for group in self.groups for e in group.examples))
        return tuple({e.path: e for e in used}.values())


def make_splits(
    dataset: Dataset,
    protocol: Protocol,
    shots: int | None,
    seed: int,
    *,
    targets: Sequence[Dataset] = (),
    class_split: ClassSplit | None = None,
    val_shots: int = 0,
    unlabelled: bool = False,
) -> Splits:
    """Training and test images of a data set under a protocol.

    'base-to-novel' trains on the base classes and tests base (seen) and novel (unseen) apart; 'few-shot' trains and
    tests on all classes (seen); 'all-classes' trains on the base classes and tests on all of them together (unknown),
    which is how a deployed model is used; 'custom' is base-to-novel with classes chosen by the user.

    'cross-dataset' trains on all classes and tests them (seen) and then each target (unseen). 'domain-generalization'
    does so with targets that show the same classes in another way. Their role is 'unseen' too, as published: MMRL
    classifies ImageNet's variants with class-token logits alone.

    'train-only' trains on all classes and tests nothing; of data without parts of their own it takes every image.

    Args:
        dataset: the data.
        protocol: one of the above.
        shots: training images per class; None or 0 for all.
        seed: of the draw.
        targets: data sets to test on, for the two protocols that have them.
        class_split: classes chosen by the user, for 'custom'.
        val_shots: validation images per class, 0 for all; never more than `shots`. Published few-shot code takes 4.
        unlabelled: train on the images of all classes that are trained on or tested, without labels. Shots, if any, are
            drawn per class. No image is left for validation, which needs labels.

    Raises:
        DataError: the protocol is unknown or lacks what it needs, the classes are too few for it, a class to train on
            has no training image, or no image is left to test.
    """
    check_given(protocol, targets, class_split)
    if protocol == "train-only" and dataset.cut:
        dataset = replace(dataset, train=dataset.examples, val=(), test=())
    if not dataset.train:
        raise DataError(f"data set '{dataset.name}' has no training images; name it as a target: --targets NAME.")
    trained, groups = _groups(dataset, protocol, targets, class_split)
    if unlabelled:
        trained = _with_tested(dataset, protocol, trained, groups)
    _check_trained(dataset, trained)
    # Shots are drawn for all classes before the base classes are selected, as CoOp does: in the other order the
    # generator would draw other images. The same generator then draws the validation images.
    generator = random.Random(seed)
    drawn, underfull = sample_shots(dataset.train, shots, generator)
    val, _ = sample_shots(dataset.val, min(val_shots, shots) if shots else val_shots, generator)
    wanted = set(trained)
    return Splits(
        classes=_names(dataset, trained),
        train=_without_labels(subset(drawn, trained)) if unlabelled else subset(drawn, trained),
        val=() if unlabelled else subset(val, trained),
        groups=groups,
        underfull={dataset.classes[label]: count for label, count in underfull.items() if label in wanted},
    )


def make_groups(
    dataset: Dataset,
    protocol: Protocol,
    *,
    targets: Sequence[Dataset] = (),
    class_split: ClassSplit | None = None,
    unlabelled: bool = False,
) -> tuple[tuple[str, ...], tuple[ClassGroup, ...]]:
    """Classes and test groups of a protocol without training images; arguments and errors are those of `make_splits`.

    Returns:
        Names of the classes that the protocol trains on, and the groups to test.
    """
    check_given(protocol, targets, class_split)
    trained, groups = _groups(dataset, protocol, targets, class_split)
    if unlabelled:
        trained = _with_tested(dataset, protocol, trained, groups)
    return _names(dataset, trained), groups


def _with_tested(
    dataset: Dataset, protocol: Protocol, trained: Sequence[int], groups: Sequence[ClassGroup]
) -> tuple[int, ...]:
    """Labels of all classes that are trained on or tested, in order.

    Raises:
        DataError: other data are tested, whose images would not be among those trained on.
    """
    if protocol in TRANSFER:
        raise DataError(
            f"a method that trains on images without labels takes them from the data that are tested, and protocol "
            f"'{protocol}' tests others; make a run for each of these: --data TARGET --protocol few-shot."
        )
    own, tested = set(trained), {name for group in groups for name in group.classes}
    return tuple(i for i, name in enumerate(dataset.classes) if i in own or name in tested)


def _without_labels(examples: Sequence[Example]) -> tuple[Example, ...]:
    return tuple(Example(example.path, UNLABELLED) for example in examples)


def _check_trained(dataset: Dataset, labels: Sequence[int]) -> None:
    filled = {example.label for example in dataset.train}
    empty = [dataset.classes[label] for label in labels if label not in filled]
    if empty:
        what = f"class '{empty[0]}' of" if len(empty) == 1 else f"{len(empty)} classes ({first_few(empty)}) of"
        has = "has" if len(empty) == 1 else "have"
        raise DataError(
            f"{what} '{dataset.name}' {has} no training images that can be read; add some, or choose the classes to "
            "train on with --class_split."
        )


def check_given(protocol: str, targets: Sequence[object], class_split: object | None) -> None:
    """Refuse a protocol without what it needs, or with what it has no use for.

    Raises:
        DataError: the message names the option.
    """
    if protocol not in get_args(Protocol):
        raise DataError(unknown("protocol", protocol, get_args(Protocol)))
    if protocol in TRANSFER and not targets:
        raise DataError(f"protocol '{protocol}' needs data sets to test on: --targets NAME,NAME.")
    if targets and protocol not in TRANSFER:
        raise DataError(f"protocol '{protocol}' has no targets; use --protocol {' or '.join(TRANSFER)}.")
    if protocol == "custom" and class_split is None:
        raise DataError("protocol 'custom' needs a file with the classes to train on: --class_split FILE.")
    if class_split is not None and protocol != "custom":
        raise DataError(f"protocol '{protocol}' chooses classes itself; use --protocol custom with --class_split.")


def _groups(
    dataset: Dataset, protocol: Protocol, targets: Sequence[Dataset], class_split: ClassSplit | None
) -> tuple[tuple[int, ...], tuple[ClassGroup, ...]]:
    """Labels to train on, and the groups to test."""
    everything = tuple(range(len(dataset.classes)))
    if protocol in TRANSFER:
        source = _group(dataset, dataset.name, SEEN, everything)
        return everything, (source, *_targets(dataset, protocol, targets))
    if protocol == "train-only":
        return everything, ()
    if protocol == "few-shot":
        return everything, (_group(dataset, "all", SEEN, everything),)
    seen, unseen = class_split.labels(dataset) if class_split else base_and_novel(dataset)
    if protocol == "all-classes":
        return seen, (_group(dataset, "all", UNKNOWN, everything),)
    base = _group(dataset, "base", SEEN, seen)
    return seen, (base, _group(dataset, "novel", UNSEEN, unseen)) if unseen else (base,)


def _targets(dataset: Dataset, protocol: Protocol, targets: Sequence[Dataset]) -> list[ClassGroup]:
    names = [dataset.name, *(target.name for target in targets)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two of the data sets are called '{twice}'; each is tested once, under a name of its own.")
    known, used = set(dataset.classes), {example.path for example in (*dataset.train, *dataset.val)}
    groups = []
    for target in targets:
        shared = sum(example.path in used for example in target.test)
        if shared:
            raise DataError(
                f"{shared:,} of the {len(target.test):,} images to test of '{target.name}' are training images of "
                f"'{dataset.name}'; take them out of one of the two."
            )
        other = next((name for name in target.classes if name not in known), None)
        if protocol == "domain-generalization" and other is not None:
            raise DataError(
                f"class '{other}' of '{target.name}' is none of '{dataset.name}'; targets of domain-generalization "
                "show the same classes, use --protocol cross-dataset for others."
            )
        group = _group(target, target.name, UNSEEN, tuple(range(len(target.classes))))
        groups.append(replace(group, templates=target.templates))
    return groups


def base_and_novel(dataset: Dataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Labels of the first half of the classes (rounded up) and of the rest.

    Raises:
        DataError: a half would have a single class, for which every answer is right.
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
    """The examples of these labels, relabelled by the position of their label in `labels`."""
    place = {label: i for i, label in enumerate(labels)}
    return tuple(Example(e.path, place[e.label]) for e in examples if e.label in place)


def manifest(splits: Splits) -> dict[str, Any]:
    """The splits as JSON: file and label of every image, and one SHA-256 over all of it.

    File names are relative to the folder that all images of a data set share, so that the hash is the same wherever
    the data lie. The hash covers the order of images, on which training depends, but not their content.
    """
    same_data = [group for group in splits.groups if group.templates is None]
    root = _root([*splits.train, *splits.val, *(example for group in same_data for example in group.examples)])
    content: dict[str, Any] = {
        "classes": list(splits.classes),
        "train": _listed(splits.train, root),
        "val": _listed(splits.val, root),
        "test": [
            _described(group, root if group.templates is None else _root(group.examples)) for group in splits.groups
        ],
    }
    if splits.descriptions:
        content["descriptions_sha256"] = content_sha256({k: list(v) for k, v in splits.descriptions.items()})
    return {"sha256": content_sha256(content), **content}


def group_sha256(group: ClassGroup) -> str:
    """SHA-256 of all that a group's accuracy depends on: classes, role, templates, files and labels."""
    return content_sha256(_described(group, _root(group.examples)))


def _described(group: ClassGroup, root: Path) -> dict[str, Any]:
    own = {} if group.templates is None else {"templates": list(group.templates)}
    examples = _listed(group.examples, root)
    return {"name": group.name, "role": group.role, "classes": list(group.classes), **own, "examples": examples}


def _listed(examples: Sequence[Example], root: Path) -> list[list[str | int]]:
    return [[example.path.relative_to(root).as_posix(), example.label] for example in examples]


def _root(examples: Sequence[Example]) -> Path:
    return Path(os.path.commonpath([example.path.parent for example in examples]))


def _group(dataset: Dataset, name: str, role: Role, labels: tuple[int, ...]) -> ClassGroup:
    examples = subset(dataset.test, labels)
    if not examples:
        raise DataError(f"data set '{dataset.name}' has no test images of the {name} classes; add some.")
    return ClassGroup(name, role, _names(dataset, labels), examples)


def _names(dataset: Dataset, labels: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(dataset.classes[label] for label in labels)

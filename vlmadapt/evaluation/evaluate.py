"""Test a finished run again, on its own splits or on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt.core.adapter import read_config
from vlmadapt.core.recipe import Precision
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.images import check_images
from vlmadapt.data.load import is_registered, load_data
from vlmadapt.data.splits import ClassGroup, Protocol
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.evaluation.accuracy import Accuracy, evaluate_group, group_of, summary
from vlmadapt.evaluation.predict import load_classifier, trained_and_known_classes, usual_precision
from vlmadapt.roles import Role
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.recorded import Recorded, recorded_groups, trained_on
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session


def evaluate(
    folder: Path,
    *,
    data: str | None = None,
    classes: Path | None = None,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
    data_root: Path | None = None,
    role: str | None = None,
    protocol: Protocol | None = None,
    precision: Precision | None = None,
) -> tuple[list[Accuracy], dict[str, Any]]:
    """Accuracies of a run's adapter.

    Args:
        folder: run folder.
        data: other data, whose test images, or all images if they have no parts of their own, are one group; images
            the run was trained on are left out. By default the test images that the run's `data.json` lists.
        classes: file with readable class names for a folder of images.
        backbone: current name or path of the backbone.
        options: options of the method that differ from training.
        data_root: folder with the registered data sets.
        role: role of the other data's classes: 'seen', 'unseen' or 'unknown'. By default it follows from their names;
            published code tests ImageNet's variants as 'unseen'.
        protocol: another protocol that trains on the same classes, whose groups and roles are tested instead.
        precision: 'fp32', 'bf16' or 'fp16'; by default full precision, and on CUDA that of the run's training.

    Returns:
        One accuracy for each group of classes, and their summary.

    Raises:
        VlmadaptError: the run or the data cannot be read, or the protocol trains on other classes.
    """
    run = Run.open(folder)
    session = Session.join()
    trained, _ = trained_and_known_classes(run)
    if protocol is not None:
        groups = _groups_of(protocol, run, trained, data, classes, data_root)
    elif data is None:
        recorded = _recorded(run, classes, data_root)
        groups = recorded.groups
        for note in recorded.notes:
            session.reporter.say(note)
    else:
        described = read_config(run.adapter).templates
        other = _tested_data(load_data(data, classes=classes, root=data_root, default=described), run, session.reporter)
        groups = (group_of(other, trained, None if role is None else Role(role)),)
    skip = data is None and protocol is not None and run.settings().skip_corrupt
    groups = tuple(replace(group, examples=check_images(group.examples, skip)) for group in groups)
    classifier = load_classifier(run.adapter, trained, backbone, options, precision or usual_precision(run))
    accuracies = [evaluate_group(classifier, group, session) for group in groups]
    return accuracies, summary(accuracies)


def _recorded(run: Run, classes: Path | None, root: Path | None) -> Recorded:
    settings = run.settings()
    if root is not None:
        settings = replace(settings, data_root=str(root))
    return recorded_groups(run.manifest(), Inputs.read(settings, classes), rename=classes is not None)


def _tested_data(data: Dataset, run: Run, reporter: Reporter) -> Dataset:
    """Other data, all of which is tested where they have no parts of their own, without what the run was trained on."""
    test = data.examples if data.cut else data.test
    if is_registered(run.settings().data):
        return replace(data, test=test)
    try:
        own = Inputs.read(run.settings()).data
    except VlmadaptError:
        own = None
    known = trained_on(run.manifest(), own, data)
    rest = tuple(example for example in test if example.path not in known)
    if len(rest) < len(test):
        reporter.say(f"{len(test) - len(rest):,} images of '{data.name}' were used in training; they are not tested.")
    return replace(data, test=rest)


def _groups_of(
    protocol: Protocol, run: Run, trained: Sequence[str], data: str | None, classes: Path | None, root: Path | None
) -> tuple[ClassGroup, ...]:
    """The groups that another protocol tests, on the run's data or on other data."""
    settings = run.settings()
    changed = replace(
        settings,
        protocol=protocol,
        targets=None,
        data=data or settings.data,
        data_root=str(root) if root else settings.data_root,
    ).resolved()
    names, groups = Inputs.read(changed, classes).groups()
    if set(names) != set(trained):
        raise DataError(
            f"protocol '{protocol}' on '{changed.data}' trains on {len(names)} classes which are not the "
            f"{len(trained)} that '{run.folder}' was trained on."
        )
    return groups

"""Test a finished run again, on its own splits or on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt.core.adapter import read_config
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.recipe import Precision
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.images import check_images
from vlmadapt.data.load import load_data
from vlmadapt.data.scan import scan_progress
from vlmadapt.data.splits import ClassGroup, Protocol
from vlmadapt.errors import DataError
from vlmadapt.evaluation.accuracy import Accuracy, evaluate_group, group_of, summary
from vlmadapt.evaluation.predict import load_classifier, trained_and_known_classes, usual_precision
from vlmadapt.evaluation.trained_run import check_teachers
from vlmadapt.roles import Role
from vlmadapt.runs.distributed import ended_with_peers
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.recorded import Recorded, recorded_groups, trained_on
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.text import counted


def evaluate(
    folder: Path | str,
    *,
    data: str | None = None,
    classes: Path | None = None,
    recursive: bool = False,
    columns: str | None = None,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
    data_root: Path | None = None,
    role: str | None = None,
    protocol: Protocol | None = None,
    precision: Precision | None = None,
    descriptions: Path | None = None,
) -> tuple[list[Accuracy], dict[str, Any]]:
    """Accuracies of a run's adapter.

    Args:
        folder: run folder.
        data: other data, whose test images, or all images if they have no parts of their own, are one group; images
            the run was trained on are left out. By default the test images that the run's `data.json` lists.
        classes: file with readable class names for a folder of images.
        recursive: read nested folders of other data (see `read_folder`).
        columns: other names of the columns of a table of other data (see `read_table`).
        backbone: current name or path of the backbone.
        options: options of the method that differ from training.
        data_root: folder with the registered data sets.
        role: role of the other data's classes: 'seen', 'unseen' or 'unknown'. By default it follows from their names;
            published code tests ImageNet's variants as 'unseen'.
        protocol: another protocol that trains on the same classes, whose groups and roles are tested instead.
        precision: 'fp32', 'bf16' or 'fp16'; by default full precision, and on CUDA that of the run's training.
        descriptions: file with sentences for each class, by default those of the run.

    Returns:
        One accuracy for each group of classes, and their summary.

    Raises:
        VlmadaptError: the run or the data cannot be read, the protocol trains on other classes, or there is nothing to
            test.
    """
    run = Run.open(folder)
    session = Session.join()
    trained, _ = trained_and_known_classes(run)
    notes: tuple[str, ...] = ()
    for note in run.place_notes():
        session.reporter.say(note)
    if protocol is not None:
        changes = {"data": data, "recursive": recursive, "columns": columns} if data else {}
        groups = _groups_of(protocol, run, trained, changes, classes, data_root)
        if data is None and run.settings().skip_corrupt:
            groups = tuple(replace(group, examples=check_images(group.examples, skip=True)) for group in groups)
    elif data is None:
        recorded = _recorded(run, classes, data_root)
        groups, notes = recorded.groups, recorded.notes
        if not groups:
            raise DataError(f"'{run.folder}' was trained without tests (train-only); name data to test with --data.")
    else:
        described = read_config(run.adapter).templates
        with session.reporter.bar("listing images", None), scan_progress(session.reporter.advance):
            given = load_data(
                data, classes=classes, root=data_root, default=described, recursive=recursive, columns=columns
            )
        other, notes = _untrained(given, run)
        groups = (group_of(other, trained, None if role is None else Role(role)),)
    for note in notes:
        session.reporter.say(note)
    classifier = load_classifier(
        run.adapter,
        trained,
        backbone or run.settings().backbone,
        options,
        precision or usual_precision(run),
        descriptions,
    )
    check_teachers(classifier.method, groups)
    with ended_with_peers():
        accuracies = [_tested(classifier, group, session, run.settings().seed) for group in groups]
    return accuracies, summary(accuracies)


def _tested(classifier: Classifier, group: ClassGroup, session: Session, seed: int) -> Accuracy:
    """Accuracy on a group. Images are decoded once; only if one cannot be read are all checked, to name each of them.

    Raises:
        DataError: images cannot be read.
    """
    try:
        return evaluate_group(classifier, group, session, seed)
    except DataError:
        check_images(group.examples)
        raise


def _recorded(run: Run, classes: Path | None, root: Path | None) -> Recorded:
    settings = run.settings()
    if root is not None:
        settings = replace(settings, data_root=str(root))
    return recorded_groups(run.manifest(), Inputs.read(settings, classes), rename=classes is not None)


def _untrained(data: Dataset, run: Run) -> tuple[Dataset, tuple[str, ...]]:
    """Other data without images the run was trained on, and notes on these; without parts all images are tested."""
    test = data.only_tested().test
    known = trained_on(run, data)
    rest = tuple(example for example in test if example.path not in known.paths)
    images = counted(len(test) - len(rest), "image")
    note = f"used in training and therefore not tested: {images} of '{data.name}'." if len(rest) < len(test) else ""
    return replace(data, test=rest), tuple(filter(None, (note, known.note)))


def _groups_of(
    protocol: Protocol,
    run: Run,
    trained: Sequence[str],
    changes: Mapping[str, Any],
    classes: Path | None,
    root: Path | None,
) -> tuple[ClassGroup, ...]:
    """The groups that another protocol tests, on the run's data or, with other settings of data, on these."""
    settings = run.settings()
    changed = replace(
        settings,
        protocol=protocol,
        targets=None,
        data_root=str(root) if root else settings.data_root,
        **changes,
    ).resolved()
    inputs = Inputs.read(changed, classes)
    names, groups = inputs.groups()
    if set(names) != set(trained):
        raise DataError(
            f"protocol '{protocol}' on '{changed.data}' trains on {len(names)} classes, not the "
            f"{len(trained)} that '{run.folder}' was trained on."
        )
    _check_untrained(groups, run, inputs.data)
    return groups


def _check_untrained(groups: Sequence[ClassGroup], run: Run, data: Dataset) -> None:
    known = trained_on(run, data).paths
    used = sum(example.path in known for group in groups for example in group.examples)
    if used:
        raise DataError(
            f"{counted(used, 'image')} to test of '{data.name}' were used in training, as the parts of the data have "
            "changed since; test the run without --protocol."
        )

"""Testing a finished run again, on its own splits or on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt.data.images import check_images
from vlmadapt.data.load import load_data
from vlmadapt.data.splits import ClassGroup, make_splits
from vlmadapt.workflows.evaluate import Accuracy, evaluate_group, group_of, summary
from vlmadapt.workflows.predict import load_classifier, trained_and_known_classes
from vlmadapt.workflows.processes import join_processes
from vlmadapt.workflows.progress import Reporter
from vlmadapt.workflows.run import Run


def evaluate(
    folder: Path,
    *,
    data: str | None = None,
    classes: Path | None = None,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[list[Accuracy], dict[str, Any]]:
    """Accuracies of a run's adapter.

    Args:
        folder: the run.
        data: other data, all of whose test images are answered together; by default the run's own splits.
        classes: readable class names for a folder.
        backbone: where its backbone is found now.
        options: of the method, to be changed against training.

    Returns:
        One accuracy for each group of classes, and their summary.
    """
    run = Run.open(folder)
    accelerator = join_processes()
    reporter = Reporter(accelerator.is_main_process)
    trained, _ = trained_and_known_classes(run)
    groups = _own_groups(run, classes) if data is None else (group_of(data, trained, classes),)
    skip = data is None and run.settings().skip_corrupt
    groups = tuple(replace(group, examples=check_images(group.examples, skip)) for group in groups)
    classifier = load_classifier(run.adapter, trained, backbone, options)
    accuracies = [evaluate_group(classifier, group, accelerator, reporter) for group in groups]
    return accuracies, summary(accuracies)


def _own_groups(run: Run, classes: Path | None) -> tuple[ClassGroup, ...]:
    settings = run.settings()
    names = classes or (Path(settings.classes) if settings.classes else None)
    data = load_data(settings.data, templates=settings.templates, classes=names)
    return make_splits(data, settings.protocol or "few-shot", settings.shots, settings.seed).groups

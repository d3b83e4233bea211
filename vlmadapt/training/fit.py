"""The main job: from settings to a trained adapter, its accuracies and a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from vlmadapt.core.adapter import save_adapter
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Role, Task, trainable_count
from vlmadapt.data.splits import Splits, manifest
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.accuracy import Accuracy, answer_group, summary
from vlmadapt.runs.distributed import join_processes
from vlmadapt.runs.inputs import Inputs, checked_splits
from vlmadapt.runs.memory import peak_memory
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import first_few
from vlmadapt.training.checkpoint import Progress
from vlmadapt.training.loop import SupportSet, TrainingLoop


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Attributes:
        folder: the run folder.
        numbers: what `result.json` holds.
        classifier: ready to answer.
    """

    folder: Path
    numbers: dict[str, Any]
    classifier: Classifier


def fit(settings: FitSettings, *, resume: Path | None = None) -> FitResult:
    """Train a method and test it.

    Args:
        settings: of the run; ignored with `resume`, which has its own.
        resume: a run folder to go on with, to the same final numbers as an undisturbed run.

    Raises:
        VlmadaptError: anything the user can mend, before any work is done where that can be.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    accelerator = join_processes()
    reporter = Reporter(accelerator.is_main_process)
    settings = settings.resolved() if resume is None else Run.open(resume).settings()
    run = Run.new(Path(settings.out or "run")) if resume is None else Run.open(resume)
    if resume is not None:
        run.check_method()
    splits, inputs = _data(settings, None if resume is None else run, reporter)
    classifier = _classifier(settings, splits, inputs.data.templates, accelerator)
    support = SupportSet(classifier, splits, settings)
    if not run.state.is_file():
        with torch.no_grad():
            classifier.method.prepare(support)
        _rehearse(classifier, splits)
    accelerator.wait_for_everyone()
    if resume is None and accelerator.is_main_process:
        run.start(settings, manifest(splits))
    reporter.say(_headline(settings, splits, classifier))
    progress = _train(classifier, splits, settings, support, run, accelerator, reporter)
    if accelerator.is_main_process:
        save_adapter(run.adapter, settings.method, classifier.method, classifier.backbone, _texts(classifier))
    answers = [answer_group(classifier, g, accelerator, reporter, settings.workers) for g in splits.groups]
    accuracies = [a.accuracy() for a in answers]
    numbers = _numbers(settings, splits, classifier, progress, accuracies, accelerator)
    numbers["data_notes"] = list(inputs.notes)
    if accelerator.is_main_process:
        run.write_answers([a.to_json() for a in answers])
        run.write_result(numbers)
    accelerator.wait_for_everyone()
    return FitResult(run.folder, numbers, classifier)


def _data(settings: FitSettings, run: Run | None, reporter: Reporter) -> tuple[Splits, Inputs]:
    """Splits with every image checked, and what they were cut from.

    Raises:
        VlmadaptError: a resumed run's data are not what they were.
    """
    inputs, splits = checked_splits(Inputs.read(settings), reporter)
    for note in inputs.notes:
        reporter.say(note)
    if splits.underfull:
        counts = first_few([f"{name} ({count})" for name, count in splits.underfull.items()])
        reporter.say(f"fewer than {settings.shots} training images: {counts}; all of theirs are used.")
    if run is not None and manifest(splits)["sha256"] != run.manifest()["sha256"]:
        raise VlmadaptError(f"the data of '{run.folder}' have changed since it was started; it cannot be resumed.")
    return splits, inputs


def _classifier(
    settings: FitSettings, splits: Splits, templates: Sequence[str], accelerator: Accelerator
) -> Classifier:
    """The method on its backbone; the seed decides its start."""
    backbone = load_backbone(settings.backbone).to(accelerator.device)
    if settings.compile:
        backbone.compile_blocks()
    torch.manual_seed(settings.seed)
    method = build_method(settings.method, backbone, Task(splits.classes, tuple(templates)), settings.options)
    if not method.answers_unseen and any(group.role != "seen" for group in splits.groups):
        raise VlmadaptError(
            f"{settings.method} with these options knows only the classes it was trained on, and the protocol "
            f"{settings.protocol} asks for others; use --protocol few-shot."
        )
    return Classifier(backbone, method, templates, settings.plan, settings.class_chunk)


def _rehearse(classifier: Classifier, splits: Splits) -> None:
    """Answer once for each group of classes, so that what cannot be answered is refused before training.

    Raises:
        VlmadaptError: a class name is longer than the context, or the method cannot answer for these classes.
    """
    blank = torch.zeros(1, 3, *classifier.backbone.image.size, device=classifier.device)
    for group in splits.groups:
        described = classifier if group.templates is None else classifier.with_templates(group.templates)
        described.scores(blank, group.classes, Role(group.role))


def _train(
    classifier: Classifier,
    splits: Splits,
    settings: FitSettings,
    support: SupportSet,
    run: Run,
    accelerator: Accelerator,
    reporter: Reporter,
) -> Progress:
    """Everything between a prepared method and a trained one; goes on from a saved state where there is one."""
    method = classifier.method
    progress = Progress()
    if any(p.requires_grad for p in method.parameters()):
        loop = TrainingLoop(classifier, splits, settings, run, accelerator)
        loop.resume()
        progress = loop.train(reporter)
    with torch.no_grad():
        method.eval().finish(support)
    return progress


def _headline(settings: FitSettings, splits: Splits, classifier: Classifier) -> str:
    return (
        f"{settings.method} on {settings.backbone}: {trainable_count(classifier.method):,} trainable parameters, "
        f"{len(splits.train)} images of {len(splits.classes)} classes, {settings.recipe.epochs} epochs of batches of "
        f"{settings.recipe.batch_size}"
    )


def _texts(classifier: Classifier) -> list[str]:
    return [template.text for template in classifier.templates]


def _numbers(
    settings: FitSettings,
    splits: Splits,
    classifier: Classifier,
    progress: Progress,
    accuracies: Sequence[Accuracy],
    accelerator: Accelerator,
) -> dict[str, Any]:
    tested = sum(a.total for a in accuracies) / max(sum(a.seconds for a in accuracies), 1e-9)
    return {
        "method": settings.method,
        "data": settings.data,
        "data_sha256": manifest(splits)["sha256"],
        "protocol": settings.protocol,
        "shots": settings.shots,
        "seed": settings.seed,
        "backbone": settings.backbone,
        "accuracy": summary(accuracies),
        "groups": [vars(a) for a in accuracies],
        "trainable_parameters": trainable_count(classifier.method),
        "steps": progress.steps,
        "seconds_per_step": progress.seconds / progress.steps if progress.steps else None,
        "test_images_per_second": tested,
        "peak_memory_bytes": peak_memory(),
        "processes": accelerator.num_processes,
    }

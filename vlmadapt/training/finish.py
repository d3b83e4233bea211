"""The end of a run: save the adapter, test it, and write the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmadapt.core.adapter import save_adapter
from vlmadapt.core.method import trainable_count
from vlmadapt.data.splits import ClassGroup, manifest
from vlmadapt.evaluation.accuracy import Predictions, predict_group, summary, with_means
from vlmadapt.evaluation.calibration import calibrate
from vlmadapt.evaluation.stream import save_stream
from vlmadapt.runs.memory import peak_memory
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.select import best_epoch
from vlmadapt.training.start import FitJob
from vlmadapt.training.track import log_test


def finish(job: FitJob, progress: TrainingProgress) -> dict[str, Any]:
    """Save the adapter, test it, and write the results; the content of `result.json`."""
    session, run, classifier = job.session, job.run, job.classifier
    if job.owner is not None:
        job.owner.check()
        texts = [template.text for template in classifier.templates]
        described = classifier.descriptions
        save_adapter(run.adapter, job.settings.method, classifier.method, classifier.backbone, texts, described)
    predictions = [_predicted(job, group) for group in job.splits.groups]
    numbers = {**_identity(job, progress), **_numbers(job, progress, predictions)}
    calibration = calibrate(classifier, job.splits.classes, job.splits.val, session)
    log_test(session.accelerator, numbers, progress.epoch)
    if job.owner is not None:
        job.owner.check()
        run.write_metrics(progress.history)
        run.write_answers([p.to_json() for p in predictions])
        run.write_calibration(calibration.to_json() if calibration else None)
        numbers = run.write_result(numbers)
    session.accelerator.wait_for_everyone()
    return numbers


def _predicted(job: FitJob, group: ClassGroup) -> Predictions:
    """Predictions of a group of classes; the state in which a stream ends is saved."""
    settings, classifier = job.settings, job.classifier
    found = predict_group(classifier, group, job.session, zero_shot=settings.zero_shot, seed=settings.seed)
    if job.owner is not None and classifier.method.streams:
        path = job.run.folder / "streams" / f"{group.name.replace('/', '-')}.safetensors"
        save_stream(path, classifier, group.classes, group.role, len(group.examples))
    return found


def _identity(job: FitJob, progress: TrainingProgress) -> dict[str, Any]:
    """Identity of the run for `result.json`: method, options, data, protocol, seed."""
    settings, method = job.settings, job.classifier.method
    return {
        "method": settings.method,
        "track": type(method).track_for(method.config),
        "data": settings.data,
        "data_sha256": manifest(job.splits)["sha256"],
        "data_notes": list(job.inputs.notes),
        "protocol": settings.protocol,
        "shots": settings.shots,
        "seed": settings.seed,
        "backbone": settings.backbone,
        "trainable_parameters": trainable_count(method, progress.trained),
    }


def _numbers(job: FitJob, progress: TrainingProgress, predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Accuracies, what to compare them with, and costs."""
    accuracies = [p.accuracy() for p in predictions]
    tested = sum(a.total for a in accuracies) / max(sum(a.seconds for a in accuracies), 1e-9)
    zero_shot = {a.name: p.zero_shot_percent for a, p in zip(accuracies, predictions, strict=True)}
    known = {name: percent for name, percent in zero_shot.items() if percent is not None}
    return {
        "accuracy": summary(accuracies),
        "chance": with_means({a.name: a.chance for a in accuracies}),
        **({"zero_shot": with_means(known)} if known else {}),
        "groups": [a.to_json() for a in accuracies],
        **({"selected_epoch": best_epoch(progress)} if progress.best else {}),
        "steps": progress.steps,
        "seconds_per_step": progress.seconds / progress.steps if progress.steps else None,
        "test_images_per_second": tested,
        "peak_memory_bytes": peak_memory(),
        "processes": job.session.accelerator.num_processes,
    }

"""`fit`: from settings to a trained adapter, its accuracies and a run folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlmadapt.core.adapter import read_config, save_adapter
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.identity import differences
from vlmadapt.core.backbone.precision import fast_precision
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.descriptions import ClassDescriptions
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Method, Task, trainable_count
from vlmadapt.data.device_augment import DeviceAugment
from vlmadapt.data.load import is_registered
from vlmadapt.data.loader import AnyTransform, TrainBatches
from vlmadapt.data.splits import ClassGroup, Splits, manifest
from vlmadapt.data.transforms import Views, train_transform
from vlmadapt.errors import AdapterError, TrainingError, VlmadaptError
from vlmadapt.evaluation.accuracy import Predictions, predict_group, summary, with_means
from vlmadapt.evaluation.calibration import calibrate
from vlmadapt.evaluation.predict import predictor_of
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.evaluation.stream import save_stream
from vlmadapt.roles import SEEN
from vlmadapt.runs.distributed import ended_with_peers
from vlmadapt.runs.identity import run_identity
from vlmadapt.runs.inputs import Inputs, checked_splits
from vlmadapt.runs.interrupt import Interrupted, stop_requests
from vlmadapt.runs.lock import Ownership, exclusive
from vlmadapt.runs.memory import peak_memory
from vlmadapt.runs.resumption import interrupted_run, resumed_settings
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.runs.settings import FitSettings
from vlmadapt.runs.shared import Shared
from vlmadapt.text import first_few
from vlmadapt.training.encoded import EncodedBatches
from vlmadapt.training.loop import TrainingLoop
from vlmadapt.training.observers import Checkpoints, ProgressBar
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.select import BestEpoch, best_epoch, check_selectable
from vlmadapt.training.support import SupportSet
from vlmadapt.training.track import Tracking, check_trackers, log_test, tracking
from vlmadapt.training.trainer import StepTrainer

_ONE_AT_A_TIME = threading.RLock()
"""One run at a time: start values and dropout draw from torch's global generator, which two runs would share."""

DRAWINGS_ONLY = (
    f"the default backbone, {FitSettings.backbone}, has only seen drawings; for photographs name another one, which is "
    "downloaded once: --backbone ViT-B-16:openai"
)


@dataclass(frozen=True)
class FitResult:
    """A finished run.

    Attributes:
        folder: the run folder.
        numbers: the content of `result.json`.
        classifier: the trained method on its backbone.
    """

    folder: Path
    numbers: dict[str, Any]
    classifier: Classifier

    @property
    def predictor(self) -> Predictor:
        """The trained method, ready to predict images, as `load` gives it for the folder."""
        return predictor_of(Run.open(self.folder), self.classifier)


@dataclass(frozen=True)
class FitJob:
    """State shared by the parts of a fit."""

    session: Session
    settings: FitSettings
    run: Run
    owner: Ownership | None
    inputs: Inputs
    splits: Splits
    classifier: Classifier
    support: SupportSet


def fit(
    settings: FitSettings,
    *,
    resume: Path | str | None = None,
    changes: Mapping[str, Any] | None = None,
    shared: Shared | None = None,
) -> FitResult:
    """Train a method and test it.

    One run at a time in each process; in a second thread `fit` waits for the first one.

    Args:
        settings: settings of the run; ignored with `resume`, which uses those of the run folder.
        resume: a run folder to continue, to the same final numbers as an uninterrupted run.
        changes: settings that a resumed run gets, see `vlmadapt.runs.resumption`.
        shared: what runs of this process share, so that later ones are faster; results are the same without it.

    Raises:
        VlmadaptError: anything the user can fix, before any work is done where possible.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    with _ONE_AT_A_TIME:
        if resume is None:
            settings = settings.resolved()
            resume = interrupted_run(settings)
            if resume is None:
                return _fit(settings, None, shared)
        folder = Path(resume)
        return _fit(resumed_settings(Run.open(folder), changes or {}), folder, shared)


def _fit(settings: FitSettings, resume: Path | None, shared: Shared | None) -> FitResult:
    folder = resume or Path(settings.out or "run")
    check_trackers(settings.tracker_names)
    session = Session.join(settings.workers, settings.tracker_names, folder / "tracking", shared)
    with ended_with_peers(), exclusive(folder) if session.main else nullcontext() as owner:
        run = Run.open(folder) if resume else Run.new(folder)
        job = start(settings, session, run, owner, resumed=resume is not None)
        with tracking(session.accelerator, settings):
            return _finish(job, _train(job))


def start(settings: FitSettings, session: Session, run: Run, owner: Ownership | None, resumed: bool) -> FitJob:
    """Read everything, build and prepare the method, and start the run folder."""
    if resumed:
        run.check_method()
        for note in run.place_notes():
            session.reporter.say(note)
    if settings.backbone == FitSettings.backbone and not is_registered(settings.data):
        session.reporter.say(DRAWINGS_ONLY)
    splits, inputs = _data(settings, run if resumed else None, session)
    classifier = _classifier(settings, splits, inputs.data.templates, session)
    if resumed:
        _check_backbone(run, classifier.backbone)
    if settings.select == "best":
        recipe = settings.recipe
        trained = trains(classifier.method) and bool(recipe.epochs or recipe.steps_per_shot)
        check_selectable(settings.method, inputs.data.name, trains=trained, validation=len(splits.val))
    support = SupportSet(classifier, splits, settings, session.reporter, session.shared)
    if not run.state.is_file():
        with torch.no_grad():
            classifier.method.prepare(support)
        _rehearse(classifier, splits)
    session.accelerator.wait_for_everyone()
    if owner is not None:
        owner.check()
        if not resumed:
            run.start(settings, manifest(splits))
    session.reporter.say(_headline(settings, splits, classifier))
    if settings.descriptions and not classifier.descriptions:
        session.reporter.say(f"{settings.method} with these options reads no descriptions; the file is not used.")
    return FitJob(session, settings, run, owner, inputs, splits, classifier, support)


def _data(settings: FitSettings, run: Run | None, session: Session) -> tuple[Splits, Inputs]:
    """Splits with every image checked, and the inputs they were made from.

    Raises:
        VlmadaptError: the data of a resumed run have changed.
    """
    reporter, shared = session.reporter, session.shared
    inputs, splits = checked_splits(Inputs.read(settings), reporter, shared.readable if shared else ())
    if shared is not None:
        shared.readable.update(example.path for example in splits.examples())
    for note in inputs.notes:
        reporter.say(note)
    if splits.underfull:
        counts = first_few([f"{name} ({count})" for name, count in splits.underfull.items()])
        reporter.say(f"fewer than {settings.shots} training images: {counts}; all of theirs are used.")
    if run is not None and json.loads(json.dumps(manifest(splits))) != run.manifest():
        raise VlmadaptError(f"the data of '{run.folder}' have changed since it was started; it cannot be resumed.")
    return splits, inputs


def _backbone(settings: FitSettings, session: Session, precision: torch.dtype | None) -> Backbone:
    """The backbone on this process's device, with its weights in a reduced precision; shared between runs."""

    def load() -> Backbone:
        backbone = load_backbone(settings.backbone).to(session.accelerator.device)
        if precision is not None:
            backbone.hold_weights_in(precision)
        if settings.compile:
            backbone.compile_blocks()
        return backbone

    if session.shared is None:
        return load()
    return session.shared.backbone((settings.backbone, precision, settings.compile), load)


def _classifier(settings: FitSettings, splits: Splits, templates: Sequence[str], session: Session) -> Classifier:
    """The method on its backbone, with start values drawn from the seed."""
    precision = fast_precision(settings.recipe.precision, session.accelerator.device)
    backbone = _backbone(settings, session, precision)
    torch.manual_seed(settings.seed)
    method = settings.spec.build(backbone, Task(splits.classes, tuple(templates)))
    if not method.answers_unseen and any(group.role != SEEN for group in splits.groups):
        raise VlmadaptError(
            f"{settings.method} with these options knows only the classes it was trained on, and the protocol "
            f"{settings.protocol} asks for others; use --protocol few-shot."
        )
    descriptions = _descriptions_for(method, splits)
    return Classifier(backbone, method, templates, settings.plan, settings.class_chunk, precision, descriptions)


def _descriptions_for(method: Method, splits: Splits) -> Mapping[str, Sequence[str]]:
    """The run's class descriptions, none for a method that reads none.

    Raises:
        DataError: the method reads them, and a class has none.
    """
    if not method.reads_descriptions:
        return {}
    described = ClassDescriptions(splits.descriptions)
    for classes in (splits.classes, *(group.classes for group in splits.groups)):
        described.of(classes)
    return splits.descriptions


def _check_backbone(run: Run, backbone: Backbone) -> None:
    """Refuse another backbone than the one that a run has saved its adapter for.

    Raises:
        VlmadaptError: the message says what differs.
    """
    try:
        saved = read_config(run.adapter)
    except AdapterError:  # none yet, or a damaged one, which the end of the run replaces
        return
    if wrong := differences(saved.backbone, backbone.identity()):
        raise VlmadaptError(f"'{run.folder}' has another backbone than '{backbone.name}': {', '.join(wrong)}.")


def _rehearse(classifier: Classifier, splits: Splits) -> None:
    """Score a blank image for each group of classes, so that impossible ones are refused before training.

    Raises:
        VlmadaptError: a class name is longer than the context, or the method cannot score these classes.
    """
    method = classifier.method
    views = () if method.test_views == 1 else (method.test_views,)
    blank = torch.zeros(1, *views, 3, *classifier.backbone.image.size, device=classifier.device)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()} if method.streams else None
    for group in splits.groups:
        described = classifier if group.templates is None else classifier.with_templates(group.templates)
        described.scores(blank, group.classes, group.role)
    if before is not None:  # this was a stream
        method.load_state_dict(before)


def _headline(settings: FitSettings, splits: Splits, classifier: Classifier) -> str:
    advice = settings.recipe.warmup_advice if trains(classifier.method) else ""
    return (
        f"{settings.method} on {settings.backbone}: {trainable_count(classifier.method):,} trainable parameters, "
        f"{len(splits.train)} images of {len(splits.classes)} classes, {settings.recipe.length}{advice}"
    )


def trains(method: Method) -> bool:
    """Whether steps change the method; a parameter that is empty counts, because a saved state may set its size."""
    return any(parameter.requires_grad for parameter in method.parameters())


def _train(job: FitJob) -> TrainingProgress:
    """Train a prepared method, from its saved state if there is one, and call `finish`."""
    method = job.classifier.method
    if trains(method):
        progress = _run_loop(job)
    else:
        _keep_changes(job)
        progress = TrainingProgress()
    with torch.no_grad():
        method.eval().finish(job.support)
    return progress


def _keep_changes(job: FitJob) -> None:
    """Write changed settings of a resumed run, once nothing is left that could refuse them."""
    if job.owner is not None:
        job.owner.check()
        job.run.restart(job.settings)


def _run_loop(job: FitJob) -> TrainingProgress:
    """Run the training loop.

    Raises:
        Interrupted: stopped by a signal; the state is saved.
        TrainingError: the loss is not finite; the last saved state is kept.
    """
    data = manifest(job.splits)["sha256"]
    identity = run_identity(job.settings, data, job.classifier.backbone.identity())
    checkpoints = Checkpoints(job.run, job.owner, identity)
    loop = training_loop(job, checkpoints)
    checkpoints.restore(loop)
    _keep_changes(job)
    epochs, steps = loop.recipe.epochs, len(loop.batches)
    with stop_requests() as requests, job.session.reporter.bar("training", epochs * steps), _advice(job.run):
        progress = loop.train(stop=lambda: bool(requests))
        if loop.captured is not None and loop.captured.reason is not None:
            job.session.reporter.say(f"training steps ran eagerly: {loop.captured.reason}.")
        if job.classifier.device.type == "cuda":
            job.session.reporter.say(loop.bound)
        if loop.stopped:
            raise Interrupted(job.run.folder, progress.epoch + 1, progress.step, steps)
        if requests:
            raise Interrupted(job.run.folder, epochs, steps, steps)
    if progress.best:
        job.classifier.method.load_state_dict(progress.best)
    return progress


def training_loop(job: FitJob, checkpoints: Checkpoints) -> TrainingLoop:
    """The training loop of a run: its batches, recipe and trainer."""
    settings, classifier, recipe = job.settings, job.classifier, job.settings.recipe
    trainer = StepTrainer(classifier.method, recipe, job.session.accelerator)
    encoded = job.support.views > 0
    batches = _encoded_batches(job, trainer) if encoded else _batches(job, trainer)
    recipe = recipe.with_epochs(len(job.splits.train) / len(job.splits.classes), len(batches))
    selection = (BestEpoch(job.support),) if settings.select == "best" else ()
    observers = (ProgressBar(job.session.reporter), *selection, checkpoints, Tracking(job.session.accelerator))
    captured = _captured(settings.step, classifier.device)
    return TrainingLoop(
        classifier, job.splits.classes, batches, recipe, trainer, job.support, observers, captured, encoded
    )


def _batches(job: FitJob, trainer: StepTrainer) -> TrainBatches:
    """Batches of images, decoded and augmented while training runs."""
    settings, recipe = job.settings, job.settings.recipe
    drawn = job.classifier.backbone.preprocess_config, recipe.crop_scale, recipe.flip
    views = job.classifier.method.views_per_step
    transform: AnyTransform
    if settings.augment == "device":
        transform = DeviceAugment(*drawn, views)
    else:
        transform = train_transform(*drawn) if views == 1 else Views(train_transform(*drawn), views)
    return TrainBatches(
        job.splits.train,
        transform,
        recipe.batch_size,
        settings.seed,
        *trainer.shard,
        settings.workers,
        views=recipe.views,
    )


def _encoded_batches(job: FitJob, trainer: StepTrainer) -> EncodedBatches:
    """The same batches as the output of the image tower, computed once for each view."""
    support, settings = job.support, job.settings
    return EncodedBatches(
        support.encoded, support.views, support.labels, settings.recipe.batch_size, settings.seed, *trainer.shard
    )


def _captured(step: str | None, device: torch.device) -> bool:
    """Whether training steps are captured, by default on CUDA.

    Raises:
        VlmadaptError: capture is requested on another device.
    """
    if step == "captured" and device.type != "cuda":
        raise VlmadaptError(f"--step captured needs CUDA, this run is on '{device.type}'; leave it out.")
    return device.type == "cuda" and step != "eager"


@contextmanager
def _advice(run: Run) -> Iterator[None]:
    """Add to a training error which state is saved and what may help."""
    try:
        yield
    except TrainingError as error:
        kept = f"the last good state is in '{run.folder}'" if run.state.is_file() else "nothing is saved"
        raise TrainingError(
            f"{error}; training stopped, {kept}. A smaller --train.lr or --train.precision fp32 may help."
        ) from error


def _finish(job: FitJob, progress: TrainingProgress) -> FitResult:
    """Save the adapter, test it, and write the results."""
    session, run, classifier = job.session, job.run, job.classifier
    if job.owner is not None:
        job.owner.check()
        texts = [template.text for template in classifier.templates]
        described = classifier.descriptions
        save_adapter(run.adapter, job.settings.method, classifier.method, classifier.backbone, texts, described)
    predictions = [_predicted(job, group) for group in job.splits.groups]
    numbers = {**_identity(job), **_numbers(job, progress, predictions)}
    calibration = calibrate(classifier, job.splits.classes, job.splits.val, session)
    log_test(session.accelerator, numbers, progress.epoch)
    if job.owner is not None:
        job.owner.check()
        run.write_metrics(progress.history)
        run.write_answers([p.to_json() for p in predictions])
        run.write_calibration(calibration.to_json() if calibration else None)
        numbers = run.write_result(numbers)
    session.accelerator.wait_for_everyone()
    return FitResult(run.folder, numbers, classifier)


def _predicted(job: FitJob, group: ClassGroup) -> Predictions:
    """Predictions of a group of classes; the state in which a stream ends is saved."""
    settings, classifier = job.settings, job.classifier
    found = predict_group(classifier, group, job.session, zero_shot=settings.zero_shot, seed=settings.seed)
    if job.owner is not None and classifier.method.streams:
        path = job.run.folder / "streams" / f"{group.name.replace('/', '-')}.safetensors"
        save_stream(path, classifier, group.classes, group.role, len(group.examples))
    return found


def _identity(job: FitJob) -> dict[str, Any]:
    """Identity of the run for `result.json`: method, options, data, protocol, seed."""
    settings = job.settings
    return {
        "method": settings.method,
        "data": settings.data,
        "data_sha256": manifest(job.splits)["sha256"],
        "data_notes": list(job.inputs.notes),
        "protocol": settings.protocol,
        "shots": settings.shots,
        "seed": settings.seed,
        "backbone": settings.backbone,
        "trainable_parameters": trainable_count(job.classifier.method),
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

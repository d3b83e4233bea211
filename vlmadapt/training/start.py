"""The start of a run: read the data, build and prepare the method, refuse what cannot work, start the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vlmadapt.core.adapter import read_config
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.identity import differences
from vlmadapt.core.backbone.precision import fast_precision
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.descriptions import ClassDescriptions
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Method, Task, trainable_count
from vlmadapt.data.load import is_registered
from vlmadapt.data.scan import scan_progress
from vlmadapt.data.splits import Splits, manifest
from vlmadapt.errors import AdapterError, VlmadaptError
from vlmadapt.evaluation.trained_run import check_teachers
from vlmadapt.roles import SEEN
from vlmadapt.runs.inputs import Inputs, checked_splits
from vlmadapt.runs.lock import Ownership
from vlmadapt.runs.run import Run
from vlmadapt.runs.session import Session
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import first_few
from vlmadapt.training.select import check_selectable
from vlmadapt.training.support import SupportSet

DRAWINGS_ONLY = (
    f"the default backbone, {FitSettings.backbone}, has only seen drawings; for photographs name another one, which is "
    "downloaded once: --backbone ViT-B-16:openai"
)

FULL_PRECISION = "steps are in full precision; with --train.precision fp16 they are about four times faster on a GPU"


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
    if classifier.device.type == "cuda" and settings.recipe.precision == "fp32" and trains(classifier.method):
        session.reporter.say(FULL_PRECISION)
    if settings.descriptions and not classifier.descriptions:
        session.reporter.say(f"{settings.method} with these options reads no descriptions; the file is not used.")
    return FitJob(session, settings, run, owner, inputs, splits, classifier, support)


def _data(settings: FitSettings, run: Run | None, session: Session) -> tuple[Splits, Inputs]:
    """Splits with every image checked, and the inputs they were made from.

    Raises:
        VlmadaptError: the data of a resumed run have changed.
    """
    reporter, shared = session.reporter, session.shared
    with reporter.bar("listing images", None), scan_progress(reporter.advance):
        inputs = Inputs.read(settings)
    inputs, splits = checked_splits(inputs, reporter, shared.readable if shared else ())
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
    if method.plain_view and settings.augment == "device":
        raise VlmadaptError(
            f"{settings.method} compares with images that are not augmented, which --augment device does not give; "
            "leave it out."
        )
    check_teachers(method, splits.groups)
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
    unlabelled = " without labels" if classifier.method.unlabelled else ""
    return (
        f"{settings.method} on {settings.backbone}: {trainable_count(classifier.method):,} trainable parameters, "
        f"{len(splits.train)} images of {len(splits.classes)} classes{unlabelled}, {settings.recipe.length}{advice}"
    )


def trains(method: Method) -> bool:
    """Whether steps change the method; a parameter that is empty counts, because a saved state may set its size."""
    return any(parameter.requires_grad for parameter in method.parameters())

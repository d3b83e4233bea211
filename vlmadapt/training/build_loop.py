"""The training loop of a run: batches, recipe, trainer and observers from its settings."""

from __future__ import annotations

import torch

from vlmadapt.data.device_augment import DeviceAugment
from vlmadapt.data.loader import AnyTransform, TrainBatches
from vlmadapt.data.transforms import Views, train_transform
from vlmadapt.errors import VlmadaptError
from vlmadapt.training.encoded import EncodedBatches
from vlmadapt.training.loop import TrainingLoop
from vlmadapt.training.observers import Checkpoints, ProgressBar
from vlmadapt.training.select import BestEpoch
from vlmadapt.training.start import FitJob
from vlmadapt.training.track import Tracking
from vlmadapt.training.trainer import StepTrainer


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
    preprocess = job.classifier.backbone.preprocess_config
    views = job.classifier.method.views_per_step
    transform: AnyTransform
    if settings.augment == "device":
        transform = DeviceAugment(preprocess, recipe.crop_scale, recipe.flip, views)
    else:
        view = train_transform(preprocess, recipe.crop_scale, recipe.flip, recipe.augmentation)
        transform = view if views == 1 else Views(view, views)
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

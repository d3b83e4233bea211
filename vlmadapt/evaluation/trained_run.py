"""Open a finished run as a frozen teacher of another method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmadapt.core.adapter import CONFIG, read_config
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.trained_run import TrainedRun
from vlmadapt.errors import DataError
from vlmadapt.evaluation.predict import load_classifier, trained_and_known_classes, usual_precision
from vlmadapt.runs.run import Run

PIXELS = ("mean", "std", "interpolation", "resize_mode")
"""Settings of the preprocessing that both backbones must share, besides the size of images."""


def trained_run(path: str, backbone: Backbone) -> TrainedRun:
    """A finished run of any method as a frozen teacher.

    Args:
        path: the run folder.
        backbone: of the method that learns; the teacher's may be another one, but has to see the same pixels.

    Raises:
        VlmadaptError: there is no such run, it is not finished, or it cannot be loaded.
        DataError: its answers depend on earlier images or on several views, or its backbone wants other pixels.
    """
    run = Run.open(Path(path))
    if not (run.adapter / CONFIG).is_file():
        raise DataError(f"the run in '{path}' is not finished; let `vlmadapt fit --resume {path}` finish it.")
    trained, _ = trained_and_known_classes(run)
    classifier = load_classifier(run.adapter, trained, run.settings().backbone, None, usual_precision(run))
    method = classifier.method
    if method.streams or method.test_views > 1:
        raise DataError(f"the run in '{path}' answers by more than one image; no method can learn from it.")
    _check_pixels(path, classifier.backbone, backbone)
    classifier.backbone.to(backbone.device)
    method.to(backbone.device)
    classifier.trust()
    found = read_config(run.adapter)
    return TrainedRun(path, classifier, found.config_sha256 or found.weights_sha256, tuple(trained))


def _check_pixels(path: str, teacher: Backbone, student: Backbone) -> None:
    """Refuse a teacher that would have to see other pixels, since both are given the same.

    Raises:
        DataError: the backbones differ in the size or the preprocessing of images.
    """
    sizes = {"size": (teacher.image.size, student.image.size)}
    both = sizes | {name: tuple(_plain(b.preprocess_config.get(name)) for b in (teacher, student)) for name in PIXELS}
    differing = [f"{name} {theirs} instead of {own}" for name, (theirs, own) in both.items() if theirs != own]
    if differing:
        raise DataError(
            f"the run in '{path}' has the backbone '{teacher.name}', which wants other images than '{student.name}': "
            f"{', '.join(differing)}; choose two with the same preprocessing."
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

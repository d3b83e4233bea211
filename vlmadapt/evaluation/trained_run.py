"""Finished runs as frozen teachers of another method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmadapt.core.adapter import CONFIG, read_config
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.method import Method, Teacher
from vlmadapt.core.trained_run import TrainedRun
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.evaluation.predict import load_classifier, trained_and_known_classes, usual_precision
from vlmadapt.roles import UNKNOWN, UNSEEN
from vlmadapt.runs.recorded import trained_on
from vlmadapt.runs.run import Run
from vlmadapt.text import counted, first_few

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


def check_teachers(method: Method, groups: Sequence[ClassGroup]) -> None:
    """Refuse to test a method whose teacher knows what the tests ask for.

    Args:
        method: may have teachers.
        groups: what is tested.

    Raises:
        VlmadaptError: a teacher was trained with labels of classes that are tested as unseen, or on images that are
            tested.
    """
    for teacher in method.teachers:
        known = sorted({name for group in groups for name in _told(teacher, group)})
        if known:
            raise VlmadaptError(
                f"the teacher in '{teacher.folder}' was trained with labels of classes that are tested as unseen "
                f"({first_few(known)}); use one of the same protocol."
            )
        run = Run.open(teacher.folder)
        for group in groups:
            used = trained_on(run, Dataset(group.name, group.classes, (), (), (), group.examples)).paths
            if used:
                raise VlmadaptError(
                    f"the teacher in '{teacher.folder}' was trained on {counted(len(used), 'image')} that are tested, "
                    f"such as '{min(used)}'; use one with other training images."
                )


def _told(teacher: Teacher, group: ClassGroup) -> set[str]:
    """Classes of a group that should be unseen, with labels known to the teacher.

    A mixture of seen and unseen classes has unseen ones if the teacher does not know them all.
    """
    known = set(group.classes).intersection(teacher.trained_classes)
    if group.role is UNSEEN or (group.role is UNKNOWN and len(known) == len(set(group.classes))):
        return known
    return set()


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

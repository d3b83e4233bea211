"""Load trained adapters for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vlmadapt.core.adapter import load_adapter, read_config
from vlmadapt.core.backbone.precision import DTYPES
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import is_published, load_backbone
from vlmadapt.core.recipe import Precision
from vlmadapt.data.descriptions import read_descriptions
from vlmadapt.errors import AdapterError, BackboneError, DataError
from vlmadapt.evaluation.accuracy import role_of
from vlmadapt.evaluation.calibration import Calibration
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.evaluation.shared import SharedRun, download, is_shared
from vlmadapt.runs.run import CONFIG, Run


def load(
    path: Path | str,
    classes: Sequence[str] | None = None,
    backbone: str | None = None,
    precision: Precision | None = None,
    descriptions: Path | None = None,
) -> Predictor:
    """Load a trained adapter for prediction.

    Args:
        path: a run folder, `hf:OWNER/NAME` for a run shared on the Hub, or an adapter folder, which needs `classes`.
        classes: class names to choose from; by default all classes of the run's data.
        backbone: current name or path of the backbone, if it has changed since training.
        precision: 'fp32', 'bf16' or 'fp16'; by default full precision, and on CUDA that of the run's training.
        descriptions: file with sentences for each class, by default those of the run.

    Raises:
        VlmadaptError: the folder holds no run or adapter, or the adapter does not fit the backbone.
    """
    if is_shared(path):
        return _load_shared(download(str(path)), classes, backbone, precision, descriptions)
    folder = Path(path)
    if (folder / CONFIG).is_file() or not folder.is_dir():
        run = Run.open(folder)
        backbone, precision = backbone or run.settings().backbone, precision or usual_precision(run)
        trained, _ = trained_and_known_classes(run)
        classifier = load_classifier(run.adapter, trained, backbone, None, precision, descriptions)
        return predictor_of(run, classifier, classes)
    _check_named_backbone(folder, backbone)
    if classes is None:
        raise DataError(f"'{folder}' is an adapter without a run; say which classes to choose from.")
    classifier = load_classifier(folder, classes, backbone, None, precision, descriptions)
    return Predictor(classifier, classes, role_of(classes, ()))


def predictor_of(run: Run, classifier: Classifier, classes: Sequence[str] | None = None) -> Predictor:
    """The predictor of a run whose adapter is loaded, for these classes or all classes of its data."""
    trained, known = trained_and_known_classes(run)
    chosen, found = known if classes is None else classes, run.calibration()
    return Predictor(classifier, chosen, role_of(chosen, trained), Calibration(**found) if found else None)


def _load_shared(
    shared: SharedRun,
    classes: Sequence[str] | None,
    backbone: str | None,
    precision: Precision | None,
    descriptions: Path | None,
) -> Predictor:
    _check_named_backbone(shared.adapter, backbone)
    classifier = load_classifier(
        shared.adapter, shared.trained, backbone, precision=precision, descriptions=descriptions
    )
    chosen = shared.classes if classes is None else classes
    return Predictor(classifier, chosen, role_of(chosen, shared.trained), shared.calibration)


def _check_named_backbone(adapter: Path, backbone: str | None) -> None:
    """Refuse to load a folder or a Hub model only because an adapter, perhaps a stranger's, names it.

    Raises:
        AdapterError: the user has to name the backbone.
    """
    named = read_config(adapter).backbone["name"]
    if backbone is None and not is_published(named):
        raise AdapterError(
            f"'{adapter}' names the backbone '{named}', which is neither registered nor one of open_clip's own; if you "
            "trust it, name it yourself with --backbone."
        )


def load_classifier(
    adapter: Path,
    classes: Sequence[str],
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
    precision: Precision | None = None,
    descriptions: Path | None = None,
) -> Classifier:
    """Load an adapter on its backbone, with some of its method's options changed.

    Args:
        adapter: folder with the two files of an adapter.
        classes: it was trained on, for adapters that do not say so.
        backbone: current name or path of the backbone.
        options: options of the method that differ from training.
        precision: that the towers run in; by default full precision.
        descriptions: file with sentences for each class, by default those that it was trained with.

    Raises:
        AdapterError: the adapter is missing or does not fit.
        DataError: descriptions are given to a method that reads none, or cannot be read.
    """
    config = read_config(adapter)
    described = read_descriptions(descriptions) if descriptions else config.descriptions
    name = backbone or config.backbone["name"]
    try:
        frozen = load_backbone(name, weights=config.backbone["sha256"])
    except BackboneError as error:
        was = config.backbone["name"]
        raise AdapterError(f"'{adapter}' was made for the backbone '{was}': {error}") from error
    if torch.cuda.is_available():
        frozen = frozen.cuda()
    method, config = load_adapter(adapter, frozen, classes, options)
    if descriptions and not method.reads_descriptions:
        raise DataError(f"'{config.method}' with these options reads no descriptions; leave out '{descriptions}'.")
    dtype = DTYPES.get(precision or "fp32")
    if dtype is not None:
        frozen.hold_weights_in(dtype)
    return Classifier(frozen, method, config.templates, precision=dtype, descriptions=described)


def usual_precision(run: Run) -> Precision:
    """The precision a run is tested in by default: on CUDA that of its training, elsewhere full precision."""
    return run.settings().recipe.precision if torch.cuda.is_available() else "fp32"


def trained_and_known_classes(run: Run) -> tuple[list[str], list[str]]:
    """Names of the classes a run was trained on, and of all its classes, in the order of its data."""
    manifest = run.manifest()
    trained: list[str] = manifest["classes"]
    tested = [name for group in manifest["test"] for name in group["classes"]]
    return trained, list(dict.fromkeys([*trained, *tested]))

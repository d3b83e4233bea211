"""Predict images with a trained adapter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image

from vlmadapt.core.adapter import load_adapter, read_config
from vlmadapt.core.backbone.precision import DTYPES
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import is_published, load_backbone
from vlmadapt.core.recipe import Precision
from vlmadapt.data.generators import DrawFrom
from vlmadapt.data.images import decoders, read_image, to_rgb
from vlmadapt.data.loader import derived_seed
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import AdapterError, BackboneError, DataError, VlmadaptError
from vlmadapt.evaluation.accuracy import role_of
from vlmadapt.evaluation.stream import continue_stream, save_stream
from vlmadapt.files import exists
from vlmadapt.roles import Role
from vlmadapt.runs.run import CONFIG, Run

BATCH = 64

T = TypeVar("T")


class Predictor:
    """A classifier bound to a list of classes.

    For a method with `streams` all images that it is given are one stream.

    Args:
        classifier: the method on its backbone.
        classes: class names to choose from.
        role: role of these classes, given to the inference router.
        stream: file with the state of a stream, which is continued if the file exists.

    Attributes:
        classifier: the method on its backbone.
        classes: class names to choose from.
        role: role of these classes, given to the inference router.

    Raises:
        VlmadaptError: there are no classes, or the stream cannot be continued.
    """

    def __init__(self, classifier: Classifier, classes: Sequence[str], role: Role, stream: Path | None = None):
        if not classes:
            raise DataError("there are no classes to choose from.")
        self.classifier = classifier
        self.classes = tuple(classes)
        self.role = role
        self._transform = test_transform(classifier.backbone.preprocess_config, classifier.method.test_views)
        self._seen = 0
        classifier.start_stream(self.classes, role)
        if stream is not None:
            self._refuse_stateless()
            self._seen = continue_stream(stream, classifier, self.classes, role) if exists(stream) else 0

    def predict(self, images: Iterable[Path | str | Image.Image], top: int = 5) -> Iterator[list[tuple[str, float]]]:
        """The `top` classes of each image with their probabilities, best first.

        Raises:
            DataError: an image cannot be read.
        """
        with decoders() as pool:
            loading: deque[list[Future[torch.Tensor]]] = deque()
            for batch in _batches(images, max(BATCH // self.classifier.method.test_views, 1)):
                loading.append([pool.submit(self._load, image, self._seen + i) for i, image in enumerate(batch)])
                self._seen += len(batch)
                if len(loading) > 1:  # the next batch is decoded while this one is classified
                    yield from self._predict(loading.popleft(), top)
            while loading:
                yield from self._predict(loading.popleft(), top)

    def save_stream(self, path: Path) -> None:
        """Write the state of the stream of all images so far, for `load(..., stream=path)`.

        Raises:
            VlmadaptError: the method's answers do not depend on earlier images.
        """
        self._refuse_stateless()
        save_stream(path, self.classifier, self.classes, self.role, self._seen)

    def _refuse_stateless(self) -> None:
        if not self.classifier.method.streams:
            name = type(self.classifier.method).__name__
            raise VlmadaptError(f"{name} answers for each image on its own; there is no stream to continue or to save.")

    def _load(self, image: Path | str | Image.Image, place: int) -> torch.Tensor:
        decoded = to_rgb(image) if isinstance(image, Image.Image) else read_image(Path(image))
        with DrawFrom(torch.Generator().manual_seed(derived_seed(0, 0, place))):  # for random views
            return self._transform(decoded)

    def _predict(self, images: list[Future[torch.Tensor]], top: int) -> Iterator[list[tuple[str, float]]]:
        batch = torch.stack([image.result() for image in images]).to(self.classifier.device)
        probabilities = self.classifier.scores(batch, self.classes, self.role).softmax(dim=-1).cpu()
        best = probabilities.topk(min(top, len(self.classes)), dim=-1)
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            yield [(self.classes[i], value) for i, value in zip(indices, values, strict=True)]


def _batches(images: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(images)
    while batch := list(islice(source, size)):
        yield batch


def load(
    path: Path | str,
    classes: Sequence[str] | None = None,
    backbone: str | None = None,
    precision: Precision | None = None,
    stream: Path | str | None = None,
) -> Predictor:
    """Load a trained adapter for prediction.

    Args:
        path: a run folder, or an adapter folder, which needs `classes`.
        classes: class names to choose from; by default all classes of the run's data.
        backbone: current name or path of the backbone, if it has changed since training.
        precision: 'fp32', 'bf16' or 'fp16'; by default full precision, and on CUDA that of the run's training.
        stream: file that `Predictor.save_stream` writes; its stream is continued if it exists.

    Raises:
        VlmadaptError: the folder holds no run or adapter, or the adapter does not fit the backbone.
    """
    folder = Path(path)
    trained: Sequence[str] = ()
    if (folder / CONFIG).is_file() or not folder.is_dir():
        run = Run.open(folder)
        trained, known = trained_and_known_classes(run)
        classes = known if classes is None else classes
        precision = precision or usual_precision(run)
        backbone = backbone or run.settings().backbone
        folder = run.adapter
    else:
        _check_named_backbone(folder, backbone)
    if classes is None:
        raise DataError(f"'{folder}' is an adapter without a run; say which classes to choose from.")
    classifier = load_classifier(folder, trained or classes, backbone, precision=precision)
    return Predictor(classifier, classes, role_of(classes, trained), None if stream is None else Path(stream))


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
) -> Classifier:
    """Load an adapter on its backbone, with some of its method's options changed.

    Args:
        adapter: folder with the two files of an adapter.
        classes: it was trained on, for adapters that do not say so.
        backbone: current name or path of the backbone.
        options: options of the method that differ from training.
        precision: that the towers run in; by default full precision.

    Raises:
        AdapterError: the adapter is missing or does not fit.
    """
    config = read_config(adapter)
    name = backbone or config.backbone["name"]
    try:
        frozen = load_backbone(name, weights=config.backbone["sha256"])
    except BackboneError as error:
        was = config.backbone["name"]
        raise AdapterError(f"'{adapter}' was made for the backbone '{was}': {error}") from error
    if torch.cuda.is_available():
        frozen = frozen.cuda()
    method, config = load_adapter(adapter, frozen, classes, options)
    dtype = DTYPES.get(precision or "fp32")
    if dtype is not None:
        frozen.hold_weights_in(dtype)
    return Classifier(frozen, method, config.templates, precision=dtype)


def usual_precision(run: Run) -> Precision:
    """The precision a run is tested in by default: on CUDA that of its training, elsewhere full precision."""
    return run.settings().recipe.precision if torch.cuda.is_available() else "fp32"


def trained_and_known_classes(run: Run) -> tuple[list[str], list[str]]:
    """Names of the classes a run was trained on, and of all its classes, in the order of its data."""
    manifest = run.manifest()
    trained: list[str] = manifest["classes"]
    tested = [name for group in manifest["test"] for name in group["classes"]]
    return trained, list(dict.fromkeys([*trained, *tested]))

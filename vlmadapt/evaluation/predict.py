"""A trained adapter answering for images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vlmadapt.core.adapter import load_adapter, read_config
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Role
from vlmadapt.data.images import read_image, to_rgb
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError
from vlmadapt.evaluation.accuracy import role_of
from vlmadapt.runs.run import CONFIG, Run

BATCH = 64


class Predictor:
    """A classifier bound to a list of classes.

    Attributes:
        classifier: the method on its backbone.
        classes: what it chooses from.
        role: what its router is told of them.
    """

    def __init__(self, classifier: Classifier, classes: Sequence[str], role: Role):
        if not classes:
            raise DataError("there are no classes to choose from.")
        self.classifier = classifier
        self.classes = tuple(classes)
        self.role = role
        self._transform = test_transform(classifier.backbone.preprocess_config)

    def predict(self, images: Iterable[Path | str | Image.Image], top: int = 5) -> Iterator[list[tuple[str, float]]]:
        """The `top` classes of each image with their probabilities, best first.

        Raises:
            DataError: an image cannot be read.
        """
        waiting: list[torch.Tensor] = []
        for image in images:
            decoded = to_rgb(image) if isinstance(image, Image.Image) else read_image(Path(image))
            waiting.append(self._transform(decoded))
            if len(waiting) == BATCH:
                yield from self._answer(waiting, top)
                waiting = []
        if waiting:
            yield from self._answer(waiting, top)

    def _answer(self, images: list[torch.Tensor], top: int) -> Iterator[list[tuple[str, float]]]:
        batch = torch.stack(images).to(self.classifier.device)
        probabilities = self.classifier.scores(batch, self.classes, self.role).softmax(dim=-1).cpu()
        best = probabilities.topk(min(top, len(self.classes)), dim=-1)
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            yield [(self.classes[i], value) for i, value in zip(indices, values, strict=True)]


def load(path: Path | str, classes: Sequence[str] | None = None, backbone: str | None = None) -> Predictor:
    """A trained adapter, ready to answer.

    Args:
        path: a run folder, or an adapter folder (then `classes` are needed).
        classes: what to choose from; by default all classes of the run's data.
        backbone: where its backbone is found now, if no longer under the name it was trained with.

    Raises:
        VlmadaptError: the folder holds no run or adapter, or it does not fit the backbone.
    """
    folder = Path(path)
    trained: Sequence[str] = ()
    if (folder / CONFIG).is_file() or not folder.is_dir():
        run = Run.open(folder)
        trained, known = trained_and_known_classes(run)
        classes = known if classes is None else classes
        folder = run.adapter
    if classes is None:
        raise DataError(f"'{folder}' is an adapter without a run; say which classes to choose from.")
    return Predictor(load_classifier(folder, classes, backbone), classes, role_of(classes, trained))


def load_classifier(
    adapter: Path,
    classes: Sequence[str],
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """An adapter on its backbone, with some of its method's options changed.

    Raises:
        AdapterError: it is missing or does not fit.
    """
    config = read_config(adapter)
    frozen = load_backbone(backbone or config.backbone["name"])
    if torch.cuda.is_available():
        frozen = frozen.cuda()
    method, config = load_adapter(adapter, frozen, classes, options)
    return Classifier(frozen, method, config.templates)


def trained_and_known_classes(run: Run) -> tuple[list[str], list[str]]:
    """The classes a run was trained on, and all it was tested on, in the order of its data."""
    manifest = run.manifest()
    trained: list[str] = manifest["classes"]
    tested = [name for group in manifest["test"] for name in group["classes"]]
    return trained, list(dict.fromkeys([*trained, *tested]))

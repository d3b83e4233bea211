"""Predict images with a classifier bound to a list of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.cores import one_core
from vlmadapt.data.image_input import ImageInput, each_image, is_one_image
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.evaluation.calibration import Calibration, Certainty, certainty, probabilities
from vlmadapt.evaluation.decoding import Broken, Decoded, Decoding
from vlmadapt.evaluation.stream import continue_stream, save_stream
from vlmadapt.roles import SEEN, Role

BATCH = 64
LIGHT = 10**8
"""Multiplications of an image tower that take about as long as decoding and resizing a photograph of 640 x 480."""
NONE = "none of these"
"""What an image is called that no class is certain enough for."""

Best = list[tuple[str, float]]
"""Names of classes and their probabilities, best first."""
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Threshold:
    """The certainty that an image must reach for a class to be named."""

    value: float
    by: Certainty = "probability"


@dataclass(frozen=True)
class Prediction:
    """Answer for one image.

    Attributes:
        image: the image as it was given.
        best: best classes.
        rejected: True if the image was below the threshold.
    """

    image: ImageInput
    best: Best
    rejected: bool = False

    @property
    def name(self) -> str:
        """The best class, or `NONE`."""
        return NONE if self.rejected else self.best[0][0]


class Predictor:
    """A classifier bound to a list of classes.

    For a method with `streams` all images that it is given are one stream.

    Attributes:
        classifier: the method on its backbone.
        classes: class names to choose from.
        role: role of these classes, given to the inference router.
        calibration: temperature and thresholds from validation images; None for a run without these, and for other
            classes than those trained on, because scores of other classes have another spread.
    """

    def __init__(
        self, classifier: Classifier, classes: Sequence[str], role: Role, calibration: Calibration | None = None
    ):
        self.classifier = classifier
        self.classes = _class_list(classes)
        self.role = role
        self.calibration = calibration if role is SEEN and set(self.classes) == set(self._trained) else None
        method = classifier.method
        transform = test_transform(classifier.backbone.preprocess_config, method.test_views, method.test_augmentation)
        self._decoding = Decoding(transform, classifier.device, max(BATCH // method.test_views, 1), self._light)
        classifier.start_stream(self.classes, role)

    def continue_stream(self, path: Path) -> None:
        """Continue the stream whose state is in a file.

        Raises:
            VlmadaptError: answers do not depend on earlier images, or the file cannot be used.
        """
        self._refuse_stateless()
        self._decoding.seen = continue_stream(path, self.classifier, self.classes, self.role)

    def save_stream(self, path: Path) -> None:
        """Write the state of the stream of all images so far, for `continue_stream`.

        Raises:
            VlmadaptError: answers do not depend on earlier images.
        """
        self._refuse_stateless()
        save_stream(path, self.classifier, self.classes, self.role, self._decoding.seen)

    def _refuse_stateless(self) -> None:
        if not self.classifier.method.streams:
            name = type(self.classifier.method).__name__
            raise VlmadaptError(f"{name} answers for each image on its own; there is no stream to continue or to save.")

    @property
    def classes_(self) -> Array:
        """Class names (classes,) in the order of `predict_proba`, as scikit-learn calls them."""
        return np.array(self.classes)

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is an iterable of str
        self, images: ImageInput, top: int = 5, *, raw: bool = False
    ) -> Best: ...
    @overload
    def predict(self, images: Iterable[ImageInput], top: int = 5, *, raw: bool = False) -> Iterator[Best]: ...

    def predict(
        self, images: ImageInput | Iterable[ImageInput], top: int = 5, *, raw: bool = False
    ) -> Best | Iterator[Best]:
        """The `top` classes with their probabilities, best first: of one image, or of each of several, one by one.

        Args:
            images: one image or an iterable of images: paths, PIL images, arrays (H, W, 3) or tensors (3, H, W) of
                uint8, see `vlmadapt.data.image_input.as_rgb`.
            top: number of classes.
            raw: probabilities without the temperature.

        Raises:
            DataError: an image cannot be read.
        """
        found = self._best(each_image(images), top, raw)
        return next(found) if is_one_image(images) else found

    def predict_proba(self, images: ImageInput | Iterable[ImageInput], *, raw: bool = False) -> Array:
        """Probabilities (N, classes) in the order of `classes_`; arguments and errors are those of `predict`."""
        found = [self.probabilities(batch.pixels, raw) for batch in self._readable(images)]
        return torch.cat([torch.empty(0, len(self.classes), dtype=torch.float64), *found]).numpy()

    def probabilities(self, pixels: Tensor, raw: bool = False) -> Tensor:
        """Probabilities (B, classes) of images (B, 3, H, W) that the backbone's test transform has prepared."""
        return self._probabilities(self._answered(pixels)[0], raw)

    def embed_images(self, images: ImageInput | Iterable[ImageInput]) -> Array:
        """Unit features (N, joint) of the adapted image tower; for arguments and errors see `predict`."""
        found = [self.classifier.embed_images(batch.pixels, self.classes).cpu() for batch in self._readable(images)]
        return torch.cat([torch.empty(0, self.classifier.backbone.image.joint), *found]).numpy()

    def embed_texts(self, names: str | Sequence[str] | None = None) -> Array:
        """Unit features (N, joint) of class names in the method's prompt, by default of `classes_`.

        Raises:
            DataError: the method has no such features: its prompts depend on the image, or are several.
        """
        wanted = self.classes if names is None else (names,) if isinstance(names, str) else names
        return self.classifier.embed_texts(wanted).cpu().numpy()

    def threshold(self, share: float, by: Certainty = "probability") -> Threshold:
        """The threshold that a share (0 to 1) of the validation images is below.

        Raises:
            DataError: there is no calibration.
        """
        if self.calibration is None:
            raise DataError(
                "no threshold can be chosen: the run has no validation images of exactly these classes; give a "
                "probability yourself with --reject_below."
            )
        return Threshold(self.calibration.threshold(share, by), by)

    def answers(
        self,
        images: Iterable[ImageInput],
        top: int = 5,
        *,
        raw: bool = False,
        reject: Threshold | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction | Broken]:
        """An answer for each image, one by one; within a batch, those that cannot be read come last.

        Args:
            images: see `predict`.
            top: number of classes of each answer.
            raw: probabilities without the temperature.
            reject: threshold below which no class is named.
            workers: threads that decode; None for what suits the machine.
        """
        top = min(top, len(self.classes))
        for batch in self._decoding.batches(images, workers):
            if batch.images:
                scores, own = self._answered(batch.pixels)
                best = self._probabilities(scores, raw).topk(top, dim=-1)
                rejected = self._rejected(scores, own, reject)
                for image, values, labels, below in zip(
                    batch.images, best.values.tolist(), best.indices.tolist(), rejected, strict=True
                ):
                    named = [(self.classes[label], value) for label, value in zip(labels, values, strict=True)]
                    yield Prediction(image, named, below)
            yield from batch.broken

    @property
    def _trained(self) -> Sequence[str]:
        return self.classifier.method.trained_classes

    @property
    def temperature(self) -> float:
        """What scores are divided by before the softmax; 1 for a run without validation images."""
        return self.calibration.temperature if self.calibration else 1.0

    def _best(self, images: Iterable[ImageInput], top: int, raw: bool) -> Iterator[Best]:
        for answer in self.answers(images, top, raw=raw):
            if isinstance(answer, Broken):
                raise DataError(answer.reason)
            yield answer.best

    def _readable(self, images: ImageInput | Iterable[ImageInput]) -> Iterator[Decoded]:
        for batch in self._decoding.batches(each_image(images)):
            if batch.broken:
                raise DataError(batch.broken[0].reason)
            yield batch

    @cached_property
    def _light(self) -> bool:
        """Whether decoding takes longer than the image tower, so that one core computes while the others decode."""
        tower, device = self.classifier.backbone.image, self.classifier.device
        if device.type != "cpu" or not tower.blocks:
            return False
        return 12 * tower.depth * tower.width**2 * tower.sequence_length * self.classifier.method.test_views <= LIGHT

    def _answered(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores (B, classes), and the method's own certainty (B,), None if it has none."""
        with one_core() if self._light else nullcontext():
            scores, own = self.classifier.scores_and_certainty(pixels, self.classes, self.role)
            return scores.cpu(), None if own is None else own.cpu()

    def _probabilities(self, scores: Tensor, raw: bool) -> Tensor:
        return probabilities(scores, 1.0 if raw else self.temperature)

    def _rejected(self, scores: Tensor, own: Tensor | None, reject: Threshold | None) -> list[bool]:
        if reject is None:
            return [False] * len(scores)
        below: list[bool] = (certainty(scores, reject.by, self.temperature, own) < reject.value).tolist()
        return below


def _class_list(given: Sequence[str]) -> tuple[str, ...]:
    """Different class names: equal ones would share one probability.

    Raises:
        DataError: there are none, one comes twice, or a single text is given, whose letters would be the classes.
    """
    if isinstance(given, str):
        raise DataError(f"the classes '{given}' are one text; give a list of names.")
    names = tuple(given)
    if not names:
        raise DataError("there are no classes to choose from.")
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise DataError(f"class '{twice}' is named twice, so that two answers would share its probability.")
    return names

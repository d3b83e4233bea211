"""Training step: a function of images and labels on the device, without reads by the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import LossTerm, total
from vlmadapt.roles import SEEN
from vlmadapt.training.trainer import StepTrainer


class StepNumbers(NamedTuple):
    """Numbers that a step computed, on the device.

    Attributes:
        terms: loss terms, detached.
        values: (1 + terms,) the loss and each unweighted term, float64.
        correct: scalar, number of images classified correctly, float64; 0 for images without labels.
    """

    terms: tuple[LossTerm, ...]
    values: Tensor
    correct: Tensor

    @property
    def loss(self) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        return self.values[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which `values` are logged."""
        return ("loss", *(f"loss/{term.name}" for term in self.terms))


class TrainingStep:
    """Forward pass, losses, backward pass, optimiser step and accuracy of one batch.

    Args:
        classifier: holds the method.
        classes: names that the labels index.
        trainer: runs the optimiser.
        encoded: images come as the output (B, width) of the untouched image tower.
    """

    def __init__(self, classifier: Classifier, classes: Sequence[str], trainer: StepTrainer, encoded: bool = False):
        self.classifier = classifier
        self._encoded = encoded
        self.trainer = trainer
        self._classes = tuple(classes)

    def __call__(self, images: Tensor, labels: Tensor) -> StepNumbers:
        """Run the step on images (B, 3, H, W), or their output (B, width), and labels (B,)."""
        method = self.classifier.method
        given = FrozenImages.of_output(images) if self._encoded else images
        fwd = self.classifier.forward(given, self._classes, None if method.unlabelled else labels)
        with self.trainer.autocast():
            terms = method.training_step(fwd, self.trainer)
            with torch.no_grad():
                correct = self._correct(fwd, labels)
        detached = tuple(LossTerm(name, weight, value.detach()) for name, weight, value in terms)
        values = torch.stack([total(detached).double(), *(term.value.double() for term in detached)])
        return StepNumbers(detached, values, correct.double())

    def _correct(self, fwd: ForwardPass, labels: Tensor) -> Tensor:
        """Number of images classified correctly, a scalar; 0 without labels."""
        method = self.classifier.method
        if method.unlabelled:
            return torch.zeros((), device=labels.device)
        return (method.route(fwd, SEEN).argmax(-1) == labels).sum()


class EpochSums:
    """Running sums of a step's numbers over the images of an epoch, on the device until they are read.

    Args:
        start: sums to continue from, as `read` gave them.
    """

    def __init__(self, start: Mapping[str, float]):
        self._start = dict(start)
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._images = self._start.pop("images", 0.0)

    def add(self, numbers: StepNumbers, images: int) -> None:
        """Add the numbers of a step, which are means over `images` images; 0 images add nothing."""
        self._add(numbers.names, numbers.values * images)
        self._add(("correct",), numbers.correct[None] * min(images, 1))
        self._images += images

    def read(self) -> dict[str, float]:
        """The sums so far: of each number, of `correct` classifications and of `images`."""
        found = {**self._start, "images": self._images}
        for names, values in self._sums.items():
            for name, value in zip(names, values.tolist(), strict=True):
                found[name] = found.get(name, 0.0) + value
        return found

    def _add(self, names: tuple[str, ...], values: Tensor) -> None:
        if names not in self._sums:
            start = [self._start.pop(name, 0.0) for name in names]
            self._sums[names] = values.new_tensor(start) if any(start) else torch.zeros_like(values)
        self._sums[names] += values

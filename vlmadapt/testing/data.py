"""Labelled random images: each class is noise around a random image of the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.image_bank import ImageBank
from vlmadapt.deprecated import warn_deprecated

CLASSES = ("golden retriever", "jack-o'-lantern", "Boeing 737-800", "cat", "red_fox")
OTHERS = ("axolotl", "tea pot", "american pit bull terrier")
TEMPLATE = "a photo of a {}."
SHOTS = 4


class Described(Mapping[str, Sequence[str]]):
    """Two or three sentences for any class name."""

    def __getitem__(self, name: str) -> Sequence[str]:
        texts = (f"a {name}.", f"{name}, which has a shape.", f"a photo of the {name} in its colour.")
        return texts[: 2 + len(name) % 2]

    def __iter__(self) -> Iterator[str]:
        return iter((*CLASSES, *OTHERS))

    def __len__(self) -> int:
        return len(CLASSES) + len(OTHERS)


@dataclass(frozen=True)
class Shots:
    """Images (N, 3, H, W) and labels (N,) for a list of class names."""

    names: Sequence[str]
    images: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, names: Sequence[str], size: tuple[int, int], per_class: int = SHOTS, seed: int = 0) -> Shots:
        """Draw `per_class` images of each class, in random order; the same for the same seed."""
        centres = torch.randn(len(names), 3, *size, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(100 + seed)
        labels = torch.arange(len(names)).repeat(per_class)
        labels = labels[torch.randperm(len(labels), generator=generator)]
        return cls(names, centres[labels] + 0.5 * torch.randn(len(labels), 3, *size, generator=generator), labels)

    def with_views(self, views: int) -> Shots:
        """The same images, or with several views (N, views, 3, H, W), which differ in brightness."""
        if views == 1:
            return self
        brightness = torch.linspace(1, 0.8, views)[:, None, None, None]
        return replace(self, images=self.images[:, None] * brightness)

    def to(self, device: torch.device) -> Shots:
        """The same images and labels on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of at most `size` images with their labels."""
        yield from zip(self.images.split(size), self.labels.split(size), strict=True)


def bank_of(classifier: Classifier, shots: Shots) -> ImageBank:
    """The images, or the tower's output where the method leaves the image tower untouched, to draw from by class."""
    encoded = classifier.encodes_images_once
    images = shots.images if shots.images.ndim == 4 else shots.images[:, 0]
    bank = ImageBank(shots.labels, len(shots.names), encoded)
    bank.show([classifier.encode(images) if encoded else images])
    return bank


class MemorySupport:
    """Implements `vlmadapt.plugin.Support` on images in memory."""

    def __init__(self, classifier: Classifier, train: Shots, validation: Shots):
        self._classifier = classifier
        self._train = train
        self._validation = validation

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """`times` epochs of the training images; augmentation changes their brightness."""
        for number in range(times):
            yield self._forwards(self._train, 1 + 0.1 * (number + 1) if augmented else 1.0)

    def passes(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """Deprecated: `epochs`."""
        warn_deprecated("Support.passes", "Support.epochs")
        return self.epochs(augmented, times)

    def validation(self) -> Iterator[ForwardPass]:
        """The validation images."""
        return self._forwards(self._validation, 1.0)

    def bank(self, epoch: int) -> ImageBank:
        """The training images, which are the same in every epoch."""
        return bank_of(self._classifier, self._train)

    def _forwards(self, shots: Shots, brightness: float) -> Iterator[ForwardPass]:
        for images, labels in shots.batches(3):
            yield self._classifier.forward(brightness * images, shots.names, labels)

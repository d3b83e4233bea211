"""Training images on the device, of which a step draws one of each class it asks for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.errors import DataError


class ImageBank:
    """The training images of an epoch on the device, or what the untouched image tower gives for them.

    Args:
        labels: (N,) class of each image.
        classes: number of classes.
        encoded: the images are outputs of the untouched image tower, see `FrozenImages.of_output`.

    Raises:
        DataError: a class has no image.
    """

    def __init__(self, labels: Tensor, classes: int, encoded: bool):
        self._encoded = encoded
        self._order = labels.argsort(stable=True)
        self._counts = torch.bincount(labels, minlength=classes)
        self._starts = self._counts.cumsum(0) - self._counts
        self._images: Tensor | None = None
        if empty := (self._counts == 0).nonzero().flatten().tolist():
            raise DataError(f"images are drawn by class, and class number {empty[0]} has no training image.")

    def show(self, batches: Iterable[Tensor]) -> None:
        """Take these images (N, ...), in batches, instead of those before: other views, in the same memory.

        A captured step reads that memory again at each replay.
        """
        start = 0
        for batch in batches:
            if self._images is None:
                self._images = batch.new_empty(len(self._order), *batch.shape[1:])
            self._images[start : start + len(batch)] = batch
            start += len(batch)

    def draw(self, classes: Tensor) -> FrozenImages:
        """A random image of each class (n,), drawn on the device."""
        assert self._images is not None
        counts = self._counts[classes]
        drawn = (torch.rand(len(classes), device=classes.device) * counts).long()
        rows = self._order[self._starts[classes] + torch.minimum(drawn, counts - 1)]
        images = self._images[rows]
        return FrozenImages.of_output(images) if self._encoded else FrozenImages(images)

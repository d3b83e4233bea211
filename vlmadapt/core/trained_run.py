"""A finished run, frozen, that another method learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.kept_text import Unchanging
from vlmadapt.roles import UNKNOWN


@dataclass(frozen=True, eq=False)
class TrainedRun(Unchanging):
    """A trained method on a backbone of its own, without gradients; `trained_run` opens one.

    Attributes:
        folder: the run's folder.
        classifier: the trained method on its backbone.
        sha256: SHA-256 of its adapter's configuration and tensors.
        trained_classes: names of the classes whose labels it was trained on.
    """

    folder: str
    classifier: Classifier
    sha256: str
    trained_classes: tuple[str, ...]

    @property
    def joint(self) -> int:
        """Width of its features."""
        return self.classifier.backbone.image.joint

    @torch.no_grad()
    def text(self, names: Sequence[str]) -> Tensor:
        """Unit features (classes, joint) of class names in its prompt.

        Raises:
            DataError: they depend on the image, or are several for each class.
        """
        return self.classifier.class_vectors(names)

    @torch.no_grad()
    def scores(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Its inference router's scores (B, classes) of images (B, 3, H, W), for a mixture of classes."""
        return self.classifier.route(images, names, UNKNOWN)

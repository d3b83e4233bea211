"""Checks of batch sizes."""

from __future__ import annotations

import torch

from vlmadapt.roles import SEEN
from vlmadapt.testing.checks.compare import same, scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import MethodUnderTest


def one_image(tested: MethodUnderTest) -> None:
    """It trains on batches of one image, and scores a single image."""
    classifier = tested.fit(batch_size=1, epochs=1)
    scores_of(1, len(CLASSES), tested.scores(classifier, images=1))


def image_counts(tested: MethodUnderTest) -> None:
    """The scores of an image do not depend on how images are cut into batches."""
    method = tested.trained.method
    together = tested.scores(tested.trained, images=7)
    scores_of(7, len(CLASSES), together)
    apart = tested.classifier(method)
    parts = [apart.scores(part, CLASSES, SEEN) for part in tested.test_images(method)[:7].split([1, 5, 1])]
    same("scores of seven images, together and apart", together, torch.cat(parts))

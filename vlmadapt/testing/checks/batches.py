"""Any number of images, each answered by itself."""

from __future__ import annotations

import torch

from vlmadapt.roles import SEEN
from vlmadapt.testing.checks.compare import same, scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import Subject


def one_image(subject: Subject) -> None:
    """It trains on batches of one image, and answers for one."""
    classifier = subject.fit(batch_size=1, epochs=1)
    scores_of(1, len(CLASSES), subject.scores(classifier, images=1))


def image_counts(subject: Subject) -> None:
    """An image's scores do not depend on how many others are asked for with it."""
    classifier, images = subject.trained, subject.shots(seed=2).images[:7]
    together = subject.scores(classifier, images=7)
    scores_of(7, len(CLASSES), together)
    parts = [subject.classifier(classifier.method).scores(part, CLASSES, SEEN) for part in images.split([1, 5, 1])]
    same("scores of seven images, together and apart", together, torch.cat(parts))

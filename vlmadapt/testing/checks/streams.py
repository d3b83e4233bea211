"""Check of methods whose answers depend on earlier test images."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.roles import SEEN
from vlmadapt.testing.checks.compare import agree, same
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def streams(tested: MethodUnderTest) -> None:
    """A stream that is saved and continued answers as one that is not, and a new stream forgets it."""
    method = tested.trained.method
    if not method.streams:
        raise NotApplicable("its answers do not depend on earlier images")
    whole = tested.answers(tested.trained)
    if agree(whole, _alone(tested)):
        raise CheckFailed(
            "no answer depends on the images before it, so nothing that this kit says holds for its stream.",
            "if a threshold keeps all images of the kit's random CLIP out, check options that let them in "
            "(`--options`, or `options=` of `conformance`); otherwise leave `streams` out.",
        )
    same("scores of a stream after another stream", whole, tested.answers(tested.trained))
    first, rest = tested.test_images(method).tensor_split(2)
    classifier = tested.classifier(method)
    classifier.start_stream(CLASSES, SEEN)
    scores = [classifier.scores(first, CLASSES, SEEN)]
    saved = {name: tensor.clone() for name, tensor in classifier.stream_state().items()}
    continued = tested.build()
    continued.load_state_dict(method.state_dict())
    classifier = tested.classifier(continued)
    classifier.continue_stream(saved, CLASSES, SEEN)
    scores.append(classifier.scores(rest, CLASSES, SEEN))
    same("scores of a stream, whole and continued by a new method", whole, torch.cat(scores))


def _alone(tested: MethodUnderTest) -> Tensor:
    """Scores of every test image as the only one of its stream."""
    scores = []
    for image in tested.test_images(tested.trained.method).split(1):
        tested.trained.start_stream(CLASSES, SEEN)
        scores.append(tested.trained.scores(image, CLASSES, SEEN))
    return torch.cat(scores)

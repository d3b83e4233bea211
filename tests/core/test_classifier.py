"""A classifier answers for the classes it is asked for, in their order, or refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import small
from tests.parity.tiny_clip import inputs
from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import TEMPLATE, backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.errors import DataError
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN

KNOWING = {"coop": {"per_class": True, "tokens": 2}, "linear-probe": {}, "tip-adapter": {}, "tip-adapter-f": {}}


def knowing_its_classes(method: str) -> tuple[Classifier, Tensor]:
    """A method that has no answer for other classes, and images to ask about."""
    torch.manual_seed(3)
    built = build_method(method, backbone(), Task(small.NAMES, (TEMPLATE,)), KNOWING[method])
    with torch.no_grad():
        built.prepare(FewShots(built))
    return Classifier(backbone(), built, (TEMPLATE,)), inputs(1, 4, 16)


@pytest.mark.parametrize("method", KNOWING)
def test_classes_in_another_order_get_the_same_answers(method: str) -> None:
    """A method that knows only its own classes is asked for them in its own order, whatever order is asked for."""
    classifier, images = knowing_its_classes(method)
    expected = classifier.scores(images, small.NAMES, SEEN)
    order = [3, 0, 4, 2, 1]
    found = classifier.scores(images, [small.NAMES[i] for i in order], SEEN)
    torch.testing.assert_close(found, expected[:, order])
    some = classifier.scores(images, [small.NAMES[4], small.NAMES[1]], UNKNOWN)
    torch.testing.assert_close(some, expected[:, [4, 1]])


@pytest.mark.parametrize("method", KNOWING)
def test_other_classes_are_refused(method: str) -> None:
    classifier, images = knowing_its_classes(method)
    for names, role in ((["dog", "cat", "fish", "tree", "owl"], UNKNOWN), (small.NAMES, UNSEEN)):
        with pytest.raises(DataError, match="knows only the 5 classes it was trained on"):
            classifier.scores(images, names, role)


def test_a_method_that_reads_names_answers_for_any(prompted: Classifier) -> None:
    images = inputs(1, 4, 16)
    expected = prompted.scores(images, small.NAMES, SEEN)
    reversed_names = small.NAMES[::-1]
    torch.testing.assert_close(prompted.scores(images, reversed_names, UNSEEN), expected.flip(1))
    assert prompted.scores(images, ("dog", "owl"), UNSEEN).shape == (4, 2)


@pytest.fixture
def prompted() -> Classifier:
    built = build_method("coop", backbone(), Task(small.NAMES, (TEMPLATE,)), {"tokens": 2})
    return Classifier(backbone(), built, (TEMPLATE,))

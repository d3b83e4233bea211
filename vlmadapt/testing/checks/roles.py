"""Check of the inference router for all roles of classes."""

from __future__ import annotations

from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN
from vlmadapt.testing.checks.classes import answers_for_others
from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES, OTHERS
from vlmadapt.testing.under_test import MethodUnderTest


def roles(tested: MethodUnderTest) -> None:
    """Its inference router scores seen, unseen and unknown classes."""
    answers_for_others(tested)
    for role, classes in ((SEEN, CLASSES), (UNSEEN, OTHERS), (UNKNOWN, (*CLASSES, *OTHERS))):
        scores_of(4, len(classes), tested.scores(tested.trained, classes, role))

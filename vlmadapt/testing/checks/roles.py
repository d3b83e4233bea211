"""The router is told what is known of the classes, and always answers."""

from __future__ import annotations

from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN
from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES, OTHERS
from vlmadapt.testing.under_test import Subject


def roles(subject: Subject) -> None:
    """Its router answers for seen, unseen and unknown classes."""
    for role, classes in ((SEEN, CLASSES), (UNSEEN, OTHERS), (UNKNOWN, (*CLASSES, *OTHERS))):
        scores_of(4, len(classes), subject.scores(subject.trained, classes, role))

"""A method may know the classes it was trained on, but must not be bound to them."""

from __future__ import annotations

import torch

from vlmadapt.roles import UNKNOWN, UNSEEN
from vlmadapt.testing.checks.compare import same, scores_of
from vlmadapt.testing.data import CLASSES, OTHERS
from vlmadapt.testing.under_test import Subject


def unseen_classes(subject: Subject) -> None:
    """It answers for classes it was not trained on, also when it is loaded for them."""
    trained = subject.trained
    scores = subject.scores(trained, OTHERS, UNSEEN)
    scores_of(4, len(OTHERS), scores)
    rebuilt = subject.build(OTHERS)
    rebuilt.load_state_dict(trained.method.state_dict())
    same("scores when loaded for other classes", scores, subject.scores(subject.classifier(rebuilt), OTHERS, UNSEEN))


def class_order(subject: Subject) -> None:
    """Classes in another order give the same scores in that order."""
    order = [3, 0, 4, 2, 1]
    scores = subject.scores(subject.trained)
    moved = subject.scores(subject.trained, [CLASSES[i] for i in order])
    same("scores of classes in another order", scores[:, torch.tensor(order)], moved)


def added_class(subject: Subject) -> None:
    """Another class beside them leaves the scores of the others as they are."""
    scores = subject.scores(subject.trained, CLASSES, UNKNOWN)
    among = subject.scores(subject.trained, (*CLASSES, OTHERS[0]), UNKNOWN)
    same("scores with and without another class", scores, among[:, : len(CLASSES)])


def one_class(subject: Subject) -> None:
    """It can be fitted on a single class."""
    scores_of(4, 1, subject.scores(subject.fit(CLASSES[:1], epochs=1), CLASSES[:1]))

"""Checks of class lists other than the one trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN, Role
from vlmadapt.testing.checks.compare import same, scores_of
from vlmadapt.testing.data import CLASSES, OTHERS
from vlmadapt.testing.result import NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def answers_for_others(tested: MethodUnderTest) -> None:
    """Skip a check for a method that says that it knows only its classes; vlmadapt refuses others for it."""
    if not tested.trained.method.answers_unseen:
        raise NotApplicable("it knows only the classes it was trained on (`answers_unseen`)")


def unseen_classes(tested: MethodUnderTest) -> None:
    """It scores classes it was not trained on, also after loading for them."""
    answers_for_others(tested)
    trained = tested.trained
    scores = tested.scores(trained, OTHERS, UNSEEN)
    scores_of(4, len(OTHERS), scores)
    rebuilt = tested.build(OTHERS)
    rebuilt.load_state_dict(trained.method.state_dict())
    same("scores after loading for other classes", scores, tested.scores(tested.classifier(rebuilt), OTHERS, UNSEEN))


def class_order(tested: MethodUnderTest) -> None:
    """Classes in another order give the same scores in that order: those trained on, and others."""
    _in_another_order(tested, CLASSES, SEEN, [3, 0, 4, 2, 1])
    if tested.trained.method.answers_unseen:
        _in_another_order(tested, OTHERS, UNSEEN, [2, 0, 1])


def _in_another_order(tested: MethodUnderTest, names: Sequence[str], role: Role, order: list[int]) -> None:
    scores = tested.scores(tested.trained, names, role)
    moved = tested.scores(tested.trained, [names[i] for i in order], role)
    same(f"scores of {role.value} classes in another order", scores[:, torch.tensor(order)], moved)


def added_class(tested: MethodUnderTest) -> None:
    """One more class leaves the scores of the other classes unchanged."""
    answers_for_others(tested)
    every = len(tested.shots().labels)  # an early image of a stream has little to depend on
    scores = tested.scores(tested.trained, CLASSES, UNKNOWN, every)
    among = tested.scores(tested.trained, (*CLASSES, OTHERS[0]), UNKNOWN, every)
    same("scores with and without one more class", scores, among[:, : len(CLASSES)])


def one_class(tested: MethodUnderTest) -> None:
    """It can be fitted on a single class."""
    scores_of(4, 1, tested.scores(tested.fit(CLASSES[:1], epochs=1), CLASSES[:1]))

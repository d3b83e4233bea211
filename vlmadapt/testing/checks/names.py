"""Check of unusual class names."""

from __future__ import annotations

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import MethodUnderTest

LONG = "small brown bird with a long curved beak and two white stripes above its eyes, sitting on a dry branch in fog"
ODD = "Ångström's lamp (no. 5)"


def long_names(tested: MethodUnderTest) -> None:
    """It scores long class names and names with unusual characters."""
    classes = (*CLASSES[:3], LONG, ODD)
    knows_others = tested.trained.method.answers_unseen
    classifier = tested.trained if knows_others else tested.fit(classes, epochs=1)
    scores_of(4, len(classes), tested.scores(classifier, classes))

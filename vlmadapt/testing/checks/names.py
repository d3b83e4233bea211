"""Check of unusual class names."""

from __future__ import annotations

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import MethodUnderTest

LONG = "small brown bird with a long curved beak and two white stripes above its eyes, sitting on a dry branch in fog"
ODD = "Ångström's lamp (no. 5)"


def long_names(tested: MethodUnderTest) -> None:
    """It scores long class names and names with unusual characters."""
    scores_of(4, len(CLASSES), tested.scores(tested.trained, [*CLASSES[:3], LONG, ODD]))

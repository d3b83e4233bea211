"""Class names as people write them."""

from __future__ import annotations

from vlmadapt.testing.checks.compare import scores_of
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import Subject

LONG = "small brown bird with a long curved beak and two white stripes above its eyes, sitting on a dry branch in fog"
ODD = "Ångström's lamp (no. 5)"


def long_names(subject: Subject) -> None:
    """Long names and names with unusual characters are answered for."""
    scores_of(4, len(CLASSES), subject.scores(subject.trained, [*CLASSES[:3], LONG, ODD]))

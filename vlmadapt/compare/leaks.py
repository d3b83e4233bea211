"""Marks for methods whose numbers know more than the training images: selection on test, settings per data set."""

from __future__ import annotations

from vlmadapt.compare.published import leaks_of
from vlmadapt.compare.record import Comparison
from vlmadapt.text import first_few

TEST, PER_DATA_SET = "†", "‡"


def marks(comparison: Comparison, method: str) -> str:
    """Marks after a method's name; `leak_notes` explains them."""
    test = TEST if leaks_of(method) else ""
    return test + (PER_DATA_SET if _per_data_set(comparison, method) else "")


def leak_notes(comparison: Comparison) -> list[str]:
    """A sentence for each mark."""
    published = [
        f"{TEST} {leak.method}: {leak.what} ({leak.source}); here no method is given test images."
        for method in comparison.methods
        for leak in leaks_of(method)
    ]
    per_data_set = [
        f"{PER_DATA_SET} {method}: settings published for single data sets ({first_few(files, 3)}); not all "
        "methods have these."
        for method in comparison.methods
        if (files := _per_data_set(comparison, method))
    ]
    return [*published, *per_data_set]


def _per_data_set(comparison: Comparison, method: str) -> list[str]:
    """Settings files for single data sets that a method's recipes have."""
    used = (file for entry in comparison.entries if entry.method == method for file in entry.recipe)
    return sorted({file for file in used if "/datasets/" in file})

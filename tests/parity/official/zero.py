"""ZERO."""

from __future__ import annotations

from tests.parity.official.names import Official

METHOD = "zero"


def official() -> Official:
    return Official(
        method="zero", options=lambda hyper, oracle: {"views": hyper["num_views"], "confident": hyper["gamma"]}
    )

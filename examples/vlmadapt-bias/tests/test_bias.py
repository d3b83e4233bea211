"""Conformance of bias tuning: one test for each check of the kit."""

from collections.abc import Callable

from vlmadapt.testing import conformance


@conformance("bias")
def test_bias(check: Callable[[], None]) -> None:
    check()

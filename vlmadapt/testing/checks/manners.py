"""Checks of side effects on the process."""

from __future__ import annotations

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def quiet(tested: MethodUnderTest) -> None:
    """It prints nothing."""
    printed = tested.trace.printed.strip()
    if printed:
        raise CheckFailed(f"it prints '{printed.splitlines()[0][:80]}'.")


def no_network(tested: MethodUnderTest) -> None:
    """It does not use the network."""
    for address in tested.trace.connections:
        raise CheckFailed(f"it connects to {address}.")


def no_global_state(tested: MethodUnderTest) -> None:
    """It leaves the global state of the process unchanged."""
    if not tested.trace.changed:
        return
    # Once more: libraries that are imported on first use may draw a number of their own.
    for what in tested.trace_again().changed:
        raise CheckFailed(f"it changes {what}.")

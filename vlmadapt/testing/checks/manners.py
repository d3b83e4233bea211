"""A method shares its process with everything else."""

from __future__ import annotations

from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import Subject


def quiet(subject: Subject) -> None:
    """It prints nothing."""
    printed = subject.observed.printed.strip()
    if printed:
        raise CheckFailed(f"it prints '{printed.splitlines()[0][:80]}'.")


def no_network(subject: Subject) -> None:
    """It does not use the network."""
    for address in subject.observed.connections:
        raise CheckFailed(f"it asks the network for {address}.")


def no_global_state(subject: Subject) -> None:
    """It leaves the process's global state alone."""
    if not subject.observed.changed:
        return
    # Once more: libraries that are imported on first use may draw a number of their own.
    for what in subject.observe().changed:
        raise CheckFailed(f"it changes {what}.")

"""Running the checks outside a test suite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from vlmadapt.testing.checks import checks
from vlmadapt.testing.result import Check, CheckFailed, NotApplicable, Outcome, Status
from vlmadapt.testing.under_test import Subject


def run_checks(
    subject: Subject, *, quick: bool = False, expected_failures: Mapping[str, str] | None = None
) -> Iterator[Outcome]:
    """The outcome of each check, as it comes.

    Args:
        subject: the method.
        quick: leave out what starts processes.
        expected_failures: check and reason, beside the method's own `limitations`.
    """
    expected = {**subject.cls.limitations, **(expected_failures or {})}
    for check in checks(quick=quick, expected=expected):
        began = time.perf_counter()
        status, message = _ended(check, subject, expected.get(check.name))
        yield Outcome(check.name, check.what, status, message, time.perf_counter() - began)


def _ended(check: Check, subject: Subject, expected: str | None) -> tuple[Status, str]:
    try:
        check(subject)
    except NotApplicable as reason:
        return Status.SKIPPED, str(reason)
    except CheckFailed as failure:
        return (Status.FAILED, str(failure)) if expected is None else (Status.EXPECTED, expected)
    if expected is None:
        return Status.PASSED, ""
    return Status.UNEXPECTED, f"it passes, but a failure is expected ('{expected}'); take that out."

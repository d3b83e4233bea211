"""Run the checks outside a test suite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from vlmadapt.testing.checks import checks
from vlmadapt.testing.result import Check, CheckFailed, CheckResult, NotApplicable, Status
from vlmadapt.testing.under_test import MethodUnderTest


def run_checks(
    tested: MethodUnderTest, *, quick: bool = False, expected_failures: Mapping[str, str] | None = None
) -> Iterator[CheckResult]:
    """Run the checks one by one and yield each result.

    Args:
        tested: the method under test.
        quick: leave out checks that start processes.
        expected_failures: names of checks with reasons, in addition to the method's own `limitations`.

    Raises:
        PluginError: an expected failure is not the name of a check.
    """
    expected = {**tested.cls.limitations_for(tested.config), **(expected_failures or {})}
    for check in checks(quick=quick, expected=expected):
        began = time.perf_counter()
        status, message = _check(check, tested, expected.get(check.name))
        yield CheckResult(check.name, check.what, status, message, time.perf_counter() - began)


def _check(check: Check, tested: MethodUnderTest, expected: str | None) -> tuple[Status, str]:
    try:
        check(tested)
    except NotApplicable as reason:
        return Status.SKIPPED, str(reason)
    except CheckFailed as failure:
        return (Status.FAILED, str(failure)) if expected is None else (Status.EXPECTED, expected)
    if expected is None:
        return Status.PASSED, ""
    return Status.UNEXPECTED, (
        f"the check passes, but a failure is expected ('{expected}'); remove that limitation, or check options with "
        "which the method does on the kit's random CLIP what the limitation speaks of."
    )

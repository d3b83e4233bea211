"""A check and its result."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmadapt.cores import one_core
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.text import first_line

if TYPE_CHECKING:
    from vlmadapt.testing.under_test import MethodUnderTest


FITS = "fits"
"""Name of the check that all others build on: what fails there is not reported by every other check again."""


class CheckFailed(AssertionError):
    """A method does not comply with a check; the message says what is wrong and how to fix it."""

    def __init__(self, problem: str, hint: str = ""):
        super().__init__(f"{problem} How to fix it: {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class NotApplicable(Exception):
    """A check does not apply to a method; the message says why."""


class Status(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    EXPECTED = "expected failure"
    UNEXPECTED = "unexpected pass"
    SKIPPED = "not applicable"


@dataclass(frozen=True)
class Check:
    """One requirement on methods.

    Attributes:
        name: identifier in `limitations` and in test ids.
        function: raises if a method does not comply.
        hint: how to fix a failure that does not say so itself.
        slow: whether it starts processes.
    """

    name: str
    function: Callable[[MethodUnderTest], None]
    hint: str
    slow: bool = False

    @property
    def what(self) -> str:
        """The requirement in one line."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, tested: MethodUnderTest) -> None:
        """Check a method.

        Raises:
            CheckFailed: it does not comply, or it raised an error, which is then the cause.
            NotApplicable: the check does not apply to it.
        """
        try:
            with one_core():  # with tensors this small, more cost more than they gain
                self.function(tested)
        except NotApplicable:
            raise
        except CheckFailed as failure:
            raise CheckFailed(failure.problem, failure.hint or self.hint) from failure.__cause__
        except Exception as error:
            if self.name != FITS and tested.trace.error is not None:  # as a rule for the same reason
                raise NotApplicable(f"the method cannot be fitted, see the check '{FITS}'") from error
            raise CheckFailed(f"{first_line(error, named=True)}{_where(error, tested.cls)}", self.hint) from error


@dataclass(frozen=True)
class CheckResult:
    """Result of a check for a method.

    Attributes:
        check: name of the check.
        what: the requirement in one line.
        status: outcome.
        message: reason, if the check did not pass.
        seconds: duration.
    """

    check: str
    what: str
    status: Status
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the method complies with this check, or fails as expected."""
        return self.status in (Status.PASSED, Status.EXPECTED, Status.SKIPPED)

    @property
    def good(self) -> bool:
        """Deprecated: `ok`."""
        warn_deprecated("CheckResult.good", "CheckResult.ok")
        return self.ok


@dataclass(frozen=True)
class PluginCheck:
    """One requirement on data sets or backbones.

    Attributes:
        name: identifier.
        function: raises if the plugin does not comply.
        hint: how to fix a failure that does not say so itself.
        basic: whether all later checks build on it: they are left out if it fails.
        slow: whether it takes long for large data.
    """

    name: str
    function: Callable[[Any], None]
    hint: str
    basic: bool = False
    slow: bool = False

    def result(self, tested: Any) -> CheckResult:
        """Check a plugin."""
        began = time.perf_counter()
        status, message = Status.PASSED, ""
        try:
            self.function(tested)
        except NotApplicable as reason:
            status, message = Status.SKIPPED, str(reason)
        except CheckFailed as failure:
            status, message = Status.FAILED, str(CheckFailed(failure.problem, failure.hint or self.hint))
        except Exception as error:
            status, message = Status.FAILED, str(CheckFailed(first_line(error), self.hint))
        what = (self.function.__doc__ or "").partition("\n")[0]
        return CheckResult(self.name, what, status, message, time.perf_counter() - began)


def results_of(checks: Sequence[PluginCheck], tested: Any) -> Iterator[CheckResult]:
    """Results one by one; they end with a failed check that all others build on."""
    for check in checks:
        result = check.result(tested)
        yield result
        if check.basic and not result.ok:
            return


def _where(error: Exception, cls: type[Any]) -> str:
    """File and line of the plugin's own code in which an error was raised; empty if there is none."""
    own = Path(sys.modules[cls.__module__].__file__ or "").parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == own]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""

"""A check and its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch

from vlmadapt.deprecated import warn_deprecated

if TYPE_CHECKING:
    from vlmadapt.testing.under_test import MethodUnderTest


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
            with _one_thread():
                self.function(tested)
        except NotApplicable:
            raise
        except CheckFailed as failure:
            raise CheckFailed(failure.problem, failure.hint or self.hint) from failure.__cause__
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise CheckFailed(f"{type(error).__name__}: {first}", self.hint) from error


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: with tensors this small, more threads cost more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

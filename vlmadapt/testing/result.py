"""What a check is and how it can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vlmadapt.testing.under_test import Subject


class CheckFailed(AssertionError):
    """A method does not do what is asked of it."""

    def __init__(self, problem: str, mend: str = ""):
        super().__init__(f"{problem} How to mend it: {mend}" if mend else problem)
        self.problem = problem
        self.mend = mend


class NotApplicable(Exception):
    """There is nothing to check; the message says why."""


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    EXPECTED = "expected failure"
    UNEXPECTED = "unexpected pass"
    SKIPPED = "not applicable"


@dataclass(frozen=True)
class Check:
    """One thing that is asked of a method.

    Attributes:
        name: by which an expected failure is named, and the id of its test.
        function: raises if the method does not comply.
        mend: what an author does about it where the failure itself does not say.
        slow: it starts processes.
    """

    name: str
    function: Callable[[Subject], None]
    mend: str
    slow: bool = False

    @property
    def what(self) -> str:
        """What is asked, in a line."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, subject: Subject) -> None:
        """Ask it of a method.

        Raises:
            CheckFailed: it does not comply; whatever else went wrong is told as its cause.
            NotApplicable: there is nothing to check.
        """
        try:
            with _one_thread():
                self.function(subject)
        except NotApplicable:
            raise
        except CheckFailed as failure:
            raise CheckFailed(failure.problem, failure.mend or self.mend) from failure.__cause__
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise CheckFailed(f"{type(error).__name__}: {first}", self.mend) from error


@dataclass(frozen=True)
class Outcome:
    """How a check ended for a method.

    Attributes:
        check: name of the check.
        what: was asked.
        status: how it ended.
        message: why, where it did not pass.
        seconds: it took.
    """

    check: str
    what: str
    status: Status
    message: str
    seconds: float

    @property
    def good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.status in (Status.PASSED, Status.EXPECTED, Status.SKIPPED)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On tensors as small as these, threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Results of the conformance kit, printed line by line as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from vlmadapt.cli.tables.console import console
from vlmadapt.testing.result import Outcome, Status

SIGNS = {
    Status.PASSED: ("ok  ", "green"),
    Status.FAILED: ("FAIL", "red"),
    Status.EXPECTED: ("xfail", "yellow"),
    Status.UNEXPECTED: ("XPASS", "red"),
    Status.SKIPPED: ("n/a ", "dim"),
}


def print_outcome(outcome: Outcome) -> None:
    """Print what a check asks, and its result."""
    out = console()
    out.print(Text.assemble(SIGNS[outcome.status], f" {outcome.check}: {outcome.what}"), soft_wrap=True)
    if outcome.message:
        out.print(f"      {outcome.message}", soft_wrap=True)


def print_summary(outcomes: Sequence[Outcome], observed: Sequence[str], advice: Sequence[str]) -> None:
    """Print counts by result, what the method was observed to use, and advice."""
    out = console()
    counts = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    out.print(f"\n{', '.join(f'{n} {status}' for status, n in counts.items())} in {seconds:.1f} s", soft_wrap=True)
    for line in observed:
        out.print(line, soft_wrap=True)
    for line in advice:
        out.print(f"advice: {line}", soft_wrap=True)

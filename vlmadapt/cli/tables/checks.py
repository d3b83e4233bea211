"""Results of the conformance kit, printed line by line as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from vlmadapt.cli.tables.console import console
from vlmadapt.testing.result import CheckResult, Status

SIGNS = {
    Status.PASSED: ("ok  ", "green"),
    Status.FAILED: ("FAIL", "red"),
    Status.EXPECTED: ("xfail", "yellow"),
    Status.UNEXPECTED: ("XPASS", "red"),
    Status.SKIPPED: ("n/a ", "dim"),
}


def print_result(result: CheckResult) -> None:
    """Print a check and its status, with its message if there is one."""
    out = console()
    out.print(Text.assemble(SIGNS[result.status], f" {result.check}: {result.what}"), soft_wrap=True)
    if result.message:
        out.print(f"      {result.message}", soft_wrap=True)


def print_summary(results: Sequence[CheckResult], observed: Sequence[str], advice: Sequence[str]) -> None:
    """Print how many checks have each status, what the method was observed to use, and advice."""
    out = console()
    counts = Counter(result.status for result in results)
    seconds = sum(result.seconds for result in results)
    out.print(f"\n{', '.join(f'{n} {status}' for status, n in counts.items())} in {seconds:.1f} s", soft_wrap=True)
    for line in observed:
        out.print(line, soft_wrap=True)
    for line in advice:
        out.print(f"advice: {line}", soft_wrap=True)

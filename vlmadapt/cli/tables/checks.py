"""Results of the conformance kit, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from vlmadapt.testing.result import CheckResult, Status

SIGNS = {
    Status.PASSED: "[green]ok  [/]",
    Status.FAILED: "[red]FAIL[/]",
    Status.EXPECTED: "[yellow]xfail[/]",
    Status.UNEXPECTED: "[red]XPASS[/]",
    Status.SKIPPED: "[dim]n/a [/]",
}


def print_result(result: CheckResult) -> None:
    """Print a check and its status, with its message if there is one."""
    console = Console(highlight=False)
    console.print(f"{SIGNS[result.status]} {result.check}: {escape(result.what)}", soft_wrap=True)
    if result.message:
        console.print(f"      {escape(result.message)}", soft_wrap=True)


def print_summary(results: Sequence[CheckResult], advice: Sequence[str]) -> None:
    """Print how many checks have each status, and the performance advice."""
    console = Console(highlight=False)
    counts = Counter(result.status for result in results)
    seconds = sum(result.seconds for result in results)
    console.print(f"\n{', '.join(f'{n} {status}' for status, n in counts.items())} in {seconds:.1f} s", soft_wrap=True)
    for line in advice:
        console.print(f"advice: {escape(line)}", soft_wrap=True)

"""Outcomes for people, a line each as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from vlmadapt.testing.result import Outcome, Status

SIGNS = {
    Status.PASSED: "[green]ok  [/]",
    Status.FAILED: "[red]FAIL[/]",
    Status.EXPECTED: "[yellow]xfail[/]",
    Status.UNEXPECTED: "[red]XPASS[/]",
    Status.SKIPPED: "[dim]n/a [/]",
}


def print_outcome(outcome: Outcome) -> None:
    """What was asked, and how it ended."""
    console = Console(highlight=False)
    console.print(f"{SIGNS[outcome.status]} {outcome.check}: {escape(outcome.what)}", soft_wrap=True)
    if outcome.message:
        console.print(f"      {escape(outcome.message)}", soft_wrap=True)


def print_summary(outcomes: Sequence[Outcome], advice: Sequence[str]) -> None:
    """How many checks ended how, and what might be done beside."""
    console = Console(highlight=False)
    counts = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    console.print(f"\n{', '.join(f'{n} {status}' for status, n in counts.items())} in {seconds:.1f} s", soft_wrap=True)
    for line in advice:
        console.print(f"advice: {escape(line)}", soft_wrap=True)
